"""The store: run files, one JSON object per line, written at once and never rewritten."""
