"""The gate: compare two sides of a change, and report what became slower, bigger, wrong or unsupported."""
