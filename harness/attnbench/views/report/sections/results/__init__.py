"""One module for each section on what was measured."""
