"""The registry: how implementations are declared, and how declarations are found."""
