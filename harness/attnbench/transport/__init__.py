"""How the parent reaches whoever runs stages: the pipe, its messages, the child process."""
