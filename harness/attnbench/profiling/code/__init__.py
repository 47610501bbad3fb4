"""The code of this process: files, functions, lines, frames and instructions, by address."""
