"""Sections that compare implementations with each other and the baseline, machines, and sparse with dense cases."""
