"""Sections of a profile's page, one module each."""
