"""Sections that compare: implementations with each other and with the baseline, machines, sparse with dense."""
