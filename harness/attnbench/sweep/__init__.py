"""Scenarios: named sweeps, read from TOML files and expanded to cases."""
