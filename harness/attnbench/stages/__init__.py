"""The stages of a cell, one module each: requests, answers and metrics."""
