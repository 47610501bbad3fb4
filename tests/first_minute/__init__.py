"""How long a newcomer and the author of a kernel wait: ``make first-minute``."""
