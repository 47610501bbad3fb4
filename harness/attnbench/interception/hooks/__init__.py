"""Ways by which a call can be seen, each installed and taken away again."""
