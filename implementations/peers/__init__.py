"""Attention of other projects: fused kernels and inference engines, each wrapped in a small file."""
