"""Transport between the parent and the process that runs stages: the pipe, its messages, the child process."""
