"""Runs on several machines: holders of devices, the driver that shares out the cases, and Ray as the engine."""
