"""Sections about the run itself, one module each."""
