"""Which known-wrong implementations a scenario's inputs catch, and which they are blind to."""
