"""Measuring: the two sides, and the rounds in which both run."""
