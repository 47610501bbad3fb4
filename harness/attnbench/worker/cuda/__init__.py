"""Time and memory of a call on a CUDA device, which the CPU's clock and counters cannot measure."""
