"""Cases: what an attention problem is, what it costs, and what numbers it is made of."""
