"""The answer of a run: which implementation is the fastest in which cases, as sentences and as a table."""
