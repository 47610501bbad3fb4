"""The numbers that a case's operands are drawn from, and how inputs change from call to call."""
