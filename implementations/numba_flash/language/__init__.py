"""The language of the kernels: compilation, vectors as values, threads, and the properties of the processor."""
