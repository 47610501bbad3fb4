"""Processors, GPUs and memory of this machine, and the limits that a container sets on them."""
