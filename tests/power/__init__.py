"""Measures how often the gate is wrong on a real machine, with unchanged code and with known faults."""
