"""Speed of the machine: its peak rates, and how its speed drifts."""
