"""One module for each section of the report, of its name; ``content.SECTIONS`` is their order."""
