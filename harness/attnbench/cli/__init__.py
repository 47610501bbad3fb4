"""The command line; ``commands`` has its verbs."""
