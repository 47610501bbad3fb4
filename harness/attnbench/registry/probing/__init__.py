"""A plug-in's declarations, asked in a process of its own and remembered."""
