"""``attnbench run --on``: a run on the machines of an engine."""
