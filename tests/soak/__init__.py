"""``make soak``: checks over many seeds that healthy implementations never fail. Takes hours; not a test."""

VALUES_OF_A_SEED = 10
"""Default number of sets of values per seed: a case is prepared or compiled only once for all of them."""
