"""Scenarios: named sweeps, one TOML file each."""
