"""The machine: its hardware and software, its peak rates, and what interferes with measurements."""
