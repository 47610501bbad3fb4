"""A profile of a call's time: samples of the program counter, what lies there, and which phase that is."""
