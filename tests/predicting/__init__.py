"""Tests of predictions for calls on many ranks."""
