"""Time of a call: visits, samples, checks of their outputs, and the machine's speed meanwhile."""
