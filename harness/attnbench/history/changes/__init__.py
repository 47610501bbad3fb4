"""Where a series changes: candidates and their statistics."""
