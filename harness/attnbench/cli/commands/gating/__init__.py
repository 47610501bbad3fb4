"""Verbs that compare revisions: the gate, its baselines and calibration, and the history."""
