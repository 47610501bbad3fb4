"""Views of a profile: text for a terminal, a page, a flame graph and a trace."""
