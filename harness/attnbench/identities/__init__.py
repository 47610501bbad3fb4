"""Identities of attention: what must stay the same when a case is computed in another way.

They need no reference answer, so they cover all rows and keys, of which the oracle judges only a sample.
"""
