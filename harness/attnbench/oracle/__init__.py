"""The oracle: computes the float64 answer of a case and judges outputs against a budget that follows from the dtype.

It runs in a process of its own, in which no code of any implementation ever runs.
"""
