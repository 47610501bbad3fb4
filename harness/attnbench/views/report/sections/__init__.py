"""Sections of the report, one module of the section's name each; ``content.SECTIONS`` has their order."""
