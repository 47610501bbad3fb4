"""Views of a history: a line for each cell, and the changes."""
