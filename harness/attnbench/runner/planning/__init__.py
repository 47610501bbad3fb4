"""From what a user asked for to the cells of a run."""
