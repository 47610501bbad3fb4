"""The store: run files with one JSON object per line, which are appended at once and never rewritten."""
