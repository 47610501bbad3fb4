"""Inputs that no honest hand wrote, to everything that reads files or listens to plug-ins."""
