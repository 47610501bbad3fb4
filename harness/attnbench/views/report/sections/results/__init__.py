"""Sections about measurements, one module each."""
