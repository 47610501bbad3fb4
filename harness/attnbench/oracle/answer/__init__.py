"""The answer of a case: attention in float64 and as the low-precision reference, with and without projections."""
