"""Identities of attention: what must stay the same when a case is computed in another way.

They need no reference answer, so they cover every row and key of a sequence of which the oracle judges a sample.
"""
