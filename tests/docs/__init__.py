"""Tests of the pages under docs/: the parts generated from the code, and the site built from them."""
