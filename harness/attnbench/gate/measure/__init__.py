"""Measuring two sides: what a side is, and the rounds in which both run."""
