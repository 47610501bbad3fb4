"""Measures how well attnbench measures kernels whose durations and footprints are known."""
