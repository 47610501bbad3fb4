"""The runner: plans cells, drives workers through them, and writes the results."""
