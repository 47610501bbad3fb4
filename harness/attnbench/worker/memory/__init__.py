"""Memory of a call, as the system and the allocators count it."""
