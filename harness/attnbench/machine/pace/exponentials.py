"""The machine's peak of exponentials, measured: beside products, what attention computes most of."""

from __future__ import annotations

from attnbench.machine.pace.stopwatch import fastest_ns

NUMBERS = 2**14
"""Inputs and outputs lie in the second-level cache."""
_CALLS = 50
_REPEATS = 30


def find_exponentials(threads: int) -> dict[str, float]:
    """Exponentials of float32 for each nanosecond, by the better of torch and NumPy: ``{"per_ns": rate}``.

    One thread is measured, and counts so many times: a call on several ones is mostly waking them.
    """
    import numpy as np
    import torch

    torch.set_num_threads(1)
    numbers = torch.randn(NUMBERS)
    out = torch.empty_like(numbers)

    def torchs() -> None:
        for _ in range(_CALLS):
            torch.exp(numbers, out=out)

    def numpys() -> None:
        for _ in range(_CALLS):
            np.exp(numbers.numpy(), out=out.numpy())

    fastest = min(fastest_ns(several, "cpu", _REPEATS) for several in (torchs, numpys))
    return {"per_ns": _CALLS * threads * NUMBERS / fastest}
