"""A model runs with another attention: implementations put in the place of what the model would have called."""
