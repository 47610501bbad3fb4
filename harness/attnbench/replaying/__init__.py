"""A captured model's attention on other implementations: what it would take, out of a capture and a run."""
