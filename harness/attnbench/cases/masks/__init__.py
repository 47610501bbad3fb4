"""Masks: the keys that each query sees. ``kinds/`` has a module per kind of mask; ``table.py`` lists them."""

from attnbench.cases.masks.kinds.block_sparse import block_table
from attnbench.cases.masks.visible import batch_varies, dense_mask, row_bounds, row_runs, visible_pairs

__all__ = ["batch_varies", "block_table", "dense_mask", "row_bounds", "row_runs", "visible_pairs"]
