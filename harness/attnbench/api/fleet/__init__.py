"""``attnbench run --on``: run on the machines of an engine."""
