"""The gate: whether a change made anything slower, bigger, wrong, or no longer supported."""
