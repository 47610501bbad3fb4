"""The worker process: runs one implementation on one device, and is expected to crash, hang, leak or lie."""
