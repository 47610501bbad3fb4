"""A run on the machines of an engine: holders of devices, who measures what, and Ray."""
