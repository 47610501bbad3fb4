"""The power of a verdict: the smallest mistakes that it would have noticed."""
