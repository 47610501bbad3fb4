"""Time and memory of a call on a CUDA device: what the CPU's clock and its counters cannot say."""
