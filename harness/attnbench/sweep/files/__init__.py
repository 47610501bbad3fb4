"""Files of tensors that a scenario or the command line names: where they lie, what they hold, what they settle."""
