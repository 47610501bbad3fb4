"""Plans a run: from a user's request to its cells."""
