"""Runs a model with an implementation in place of the attention that it would have called."""
