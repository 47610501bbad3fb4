"""One module for each section on the run itself."""
