"""Tensors of a case that are a user's own: files, what lies in them, and masks and biases made of them or of a seed."""
