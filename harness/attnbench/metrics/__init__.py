"""Metrics: their declarations, their statistics, and values derived from them."""
