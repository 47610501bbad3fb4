"""Metrics: their statistics and what follows from them."""
