"""Estimates from a capture and a run how long a captured model would take with other implementations."""
