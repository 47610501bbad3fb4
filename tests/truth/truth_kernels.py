"""Kernels with known time and memory: each computes attention, then waits or fills memory as planted."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from attnbench import attention

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench import Case

    Array = NDArray[np.float32]

DURATIONS_US = (100, 300, 1_000, 3_000, 10_000, 100_000)
FOOTPRINTS_KIB = (512, 2_048, 8_192, 65_536, 262_144)


def attend(q: Array, k: Array, v: Array, case: Case) -> Array:
    """Attention without a mask."""
    scores = q @ k.swapaxes(-1, -2) * np.float32(case.scale)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    answer: Array = weights / weights.sum(-1, keepdims=True) @ v
    return answer


def plant_duration(microseconds: int) -> None:
    """Declare a kernel that returns ``microseconds`` after it was called."""

    @attention(f"truth/takes-{microseconds}-us", framework="numpy", dtypes=["float32"], masks=["none"])
    def takes(q: Array, k: Array, v: Array, case: Case) -> Array:
        ends = perf_counter_ns() + 1_000 * microseconds
        out = attend(q, k, v, case)
        while perf_counter_ns() < ends:
            pass
        return out

    globals()[f"takes_{microseconds}"] = takes


def plant_footprint(kibibytes: int) -> None:
    """Declare a kernel that fills ``kibibytes`` of memory at once."""

    @attention(f"truth/fills-{kibibytes}-kib", framework="numpy", dtypes=["float32"], masks=["none"])
    def fills(q: Array, k: Array, v: Array, case: Case) -> Array:
        filled = np.ones(1024 * kibibytes, np.uint8)
        out = attend(q, k, v, case)
        del filled
        return out

    globals()[f"fills_{kibibytes}"] = fills


for duration in DURATIONS_US:
    plant_duration(duration)
for footprint in FOOTPRINTS_KIB:
    plant_footprint(footprint)
