"""Implementations of attention, one module (or package) for each family; the registry finds them by listing this folder."""
