"""Tensor files named by a scenario or the command line: their paths, their contents, and the fields they determine."""
