"""The pages under docs/: what they take from the code, and the site that they become."""
