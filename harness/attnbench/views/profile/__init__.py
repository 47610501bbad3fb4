"""Views of a profile: where the time of calls goes, for a terminal, as a page, a flame graph and a trace."""
