"""Reports: pages that open offline, with the charts drawn in, and a Markdown twin beside them."""
