"""``make first-minute``: measures how long a newcomer and the author of a kernel wait."""
