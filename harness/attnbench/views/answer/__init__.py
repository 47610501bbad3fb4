"""The answer first: which implementation is the fastest where, in a sentence and in a table."""
