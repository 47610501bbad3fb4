"""What a verdict would have noticed."""
