"""Parts of ``numba/flash`` that show only when memory holds what it rarely holds."""

from __future__ import annotations

import importlib

import numpy as np

KERNELS = importlib.import_module("attnbench.implementations.numba_flash.kernels")


def test_rows_of_a_tile_beyond_the_end_are_zero_whatever_lay_there_before() -> None:
    """They meet weights of zero, and zero times what was left in memory may be NaN."""
    tile = np.full((4, 3), np.nan, np.float32)
    source = np.arange(15, dtype=np.float32).reshape(5, 3)
    assert KERNELS.load(tile, source, 3) == 2
    np.testing.assert_array_equal(tile, [[9, 10, 11], [12, 13, 14], [0, 0, 0], [0, 0, 0]])


def test_bounds_of_a_block_leave_rows_out_that_see_nothing() -> None:
    low, high = np.array([7, 3, 0, 5, 9]), np.array([9, 8, 0, 5, 9])
    rules = KERNELS.Rules(low, high, np.empty(0), -np.inf, 1.0, 0.0)
    assert KERNELS.visible_keys(rules, 0, 4) == (3, 9)
    first, beyond = KERNELS.visible_keys(rules, 2, 5)
    assert first >= beyond
