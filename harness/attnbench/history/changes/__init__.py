"""Changes in a series: candidates and their statistics."""
