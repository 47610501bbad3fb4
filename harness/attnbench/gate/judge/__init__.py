"""Judging: from the records of both sides to verdicts."""
