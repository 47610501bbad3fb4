"""Tensors that a user supplies for a case: reading files, and masks and biases from files or from seeds."""
