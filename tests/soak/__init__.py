"""``make soak``: healthy implementations never fail, over many seeds. Not part of the tests: it takes hours."""
