"""The oracle: computes the float64 answer of a case, and judges outputs against a budget derived from the dtype.

It runs in its own process, which never runs an implementation's code.
"""
