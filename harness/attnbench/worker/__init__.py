"""The worker process: runs one implementation on one device, and may crash, hang, leak or misbehave."""
