"""Profiles a call's time: samples the program counter, and attributes samples to functions, lines and phases."""
