"""Models: their attention captured, replayed, and put back."""
