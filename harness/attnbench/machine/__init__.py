"""The machine: what it is, what it can do at most, and what disturbs it."""
