"""The known-wrong implementations, by the step that they get wrong."""
