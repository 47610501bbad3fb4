"""A history for people: each cell in a line, and what has changed."""
