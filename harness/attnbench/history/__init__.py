"""Histories: the measurements of each cell over a repository's commits, and the commits that changed them."""
