"""attnbench: a benchmarking and profiling harness for attention.

The names below are the public interface: what the commands do, as functions (:mod:`attnbench.api`), and what an
implementation needs. They load nothing heavy: torch, numba and pandas are imported by those functions that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from attnbench.cases.bias import alibi_slopes, dense_bias, is_bidirectional, relative_buckets
from attnbench.cases.case import Case, CaseError, make_case
from attnbench.cases.cost import flops, minimum_bytes
from attnbench.cases.masks import batch_varies, block_table, dense_mask, row_bounds, row_runs, visible_pairs
from attnbench.cases.masks.kinds.ragged import key_lengths, request_groups
from attnbench.cases.masks.table import MASK_KINDS
from attnbench.errors import AttnbenchError, NotComparableError, UsageError
from attnbench.registry.implementation import Implementation, attention
from attnbench.registry.module import module
from attnbench.registry.operands import Operands
from attnbench.registry.sends import Sends
from attnbench.version import VERSION

if TYPE_CHECKING:
    from attnbench.api import RunInterrupted as RunInterrupted
    from attnbench.api import capture as capture
    from attnbench.api import check as check
    from attnbench.api import compare as compare
    from attnbench.api import inspect as inspect
    from attnbench.api import merge as merge
    from attnbench.api import plan as plan
    from attnbench.api import predict as predict
    from attnbench.api import profile as profile
    from attnbench.api import replay as replay
    from attnbench.api import report as report
    from attnbench.api import run as run
    from attnbench.api import sensitivity as sensitivity
    from attnbench.api import show as show
    from attnbench.api import verify as verify
    from attnbench.put_back.use import use as use
    from attnbench.store.reader import load as load

__version__ = VERSION

__all__ = [
    "MASK_KINDS",
    "AttnbenchError",
    "Case",
    "CaseError",
    "Implementation",
    "NotComparableError",
    "Operands",
    "RunInterrupted",
    "Sends",
    "UsageError",
    "alibi_slopes",
    "attention",
    "batch_varies",
    "block_table",
    "capture",
    "check",
    "compare",
    "dense_bias",
    "dense_mask",
    "flops",
    "inspect",
    "is_bidirectional",
    "key_lengths",
    "load",
    "make_case",
    "merge",
    "minimum_bytes",
    "module",
    "plan",
    "predict",
    "profile",
    "relative_buckets",
    "replay",
    "report",
    "request_groups",
    "row_bounds",
    "row_runs",
    "run",
    "sensitivity",
    "show",
    "use",
    "verify",
    "visible_pairs",
]

if not TYPE_CHECKING:  # for a type checker the imports above say what there is
    _WHERE = {name: "attnbench.api" for name in __all__ if name not in globals()} | {
        "load": "attnbench.store.reader",
        "use": "attnbench.put_back.use",
    }

    def __getattr__(name: str) -> object:
        """Functions whose modules take a moment to import: when they are used."""
        if name not in _WHERE:
            raise AttributeError(f"module 'attnbench' has no attribute {name!r}")
        return getattr(importlib.import_module(_WHERE[name]), name)

    def __dir__() -> list[str]:
        """The names that a notebook completes to."""
        return __all__
