"""How the parent reaches the process that runs stages: the pipe, its messages, the child process."""
