"""``make soak``: healthy implementations never fail, over many seeds. Not part of the tests: it takes hours."""

VALUES_OF_A_SEED = 10
"""So many sets of values are drawn for each seed where nothing else is said: what a case needs prepared or compiled is
so once for all of them."""
