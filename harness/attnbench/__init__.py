"""attnbench: a benchmarking and profiling harness for attention.

The names below are the public interface. They load nothing heavy: torch, numba and pandas are imported by those
functions that need them.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from attnbench.cases.bias import alibi_slopes, dense_bias, is_bidirectional, relative_buckets
from attnbench.cases.case import Case, CaseError, make_case
from attnbench.cases.cost import flops, minimum_bytes
from attnbench.cases.masks import batch_varies, dense_mask, row_bounds, row_runs, visible_pairs
from attnbench.registry.implementation import Implementation, attention
from attnbench.registry.operands import Operands

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

try:
    __version__ = version("attnbench")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"

__all__ = [
    "Case",
    "CaseError",
    "Implementation",
    "Operands",
    "alibi_slopes",
    "attention",
    "batch_varies",
    "dense_bias",
    "dense_mask",
    "flops",
    "is_bidirectional",
    "load",
    "make_case",
    "minimum_bytes",
    "relative_buckets",
    "row_bounds",
    "row_runs",
    "visible_pairs",
]


def load(*paths: str | Path) -> pd.DataFrame:
    """Records of one or several run files as a table, one row for each record, one column for each field.

    Raises:
        attnbench.store.reader.RunFileError: when a file cannot be read, or is of a newer schema.
    """
    from attnbench.store.reader import load as load_runs

    return load_runs(*paths)
