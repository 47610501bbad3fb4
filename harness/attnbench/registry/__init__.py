"""The registry: how an implementation declares itself and how declarations are found."""
