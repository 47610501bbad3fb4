"""What concerns models: their attention captured, replayed, and put back."""
