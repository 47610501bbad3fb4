"""Implementations of attention, one module or package for each family; the registry lists this folder to find them."""
