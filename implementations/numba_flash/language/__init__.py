"""The language of the kernels: how they are compiled, vectors as values, and what the processor offers."""
