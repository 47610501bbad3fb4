"""A view in a terminal and in a notebook."""
