"""Cases that are chosen for what they have in common: every pair of values, or every triple, stands in one of them."""
