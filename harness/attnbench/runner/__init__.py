"""The runner: plans cells, drives workers through them, keeps time, and writes what came out."""
