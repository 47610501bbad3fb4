"""Reports: pages that open offline, with their charts drawn in, and a Markdown version of each."""
