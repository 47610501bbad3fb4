"""From two sides' records to verdicts."""
