"""What a plug-in declares, asked in a process of its own and remembered."""
