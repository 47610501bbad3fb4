"""Memory of a call, from the kernel's and the allocators' counters."""
