"""Looks up the code of this process by address: files, functions, lines, frames and instructions."""
