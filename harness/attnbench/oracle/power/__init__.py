"""The power of a verdict: which mistakes it would have noticed."""
