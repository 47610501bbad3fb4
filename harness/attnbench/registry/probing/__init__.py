"""Declarations of plug-ins, obtained in a separate process and cached."""
