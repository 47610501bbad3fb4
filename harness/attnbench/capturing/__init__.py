"""Captures a model's attention: counts and times its calls, and writes them as a runnable scenario."""
