"""How often the gate is wrong on a real machine: unchanged code, and real kernels with known faults."""
