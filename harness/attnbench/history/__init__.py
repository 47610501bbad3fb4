"""How each cell went over the commits of a repository, and which commit changed it."""
