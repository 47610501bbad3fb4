"""Covering arrays: sets of cases in which every possible pair, or triple, of values occurs."""
