"""Hooks that intercept calls, each with its installation and removal."""
