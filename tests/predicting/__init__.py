"""Predictions of calls on many ranks."""
