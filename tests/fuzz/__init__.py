"""Hostile inputs for everything that reads files or listens to plug-ins."""
