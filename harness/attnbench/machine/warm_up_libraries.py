"""Brings libraries into their steady state before measurements depend on it."""

from __future__ import annotations

_FUNCTIONS = ("exp", "expm1", "log", "log1p", "log2", "log10", "tanh", "sqrt", "erf", "sin", "cos")


def warm_up_torch(threads: int) -> None:
    """Set torch's threads, and let MKL choose its vector functions before several threads call them at once.

    The oneMKL that torch is built with selects the kernel of exp, log, ... at the first call, and not thread-safely: if
    two threads make that call together, one may compute its part with a low-accuracy kernel
    (https://github.com/pytorch/pytorch/issues/188792). It was observed in attnbench: the first call of unfused
    attention in float32 differed from the second, with errors 6 times the budget. A call on one element uses a single
    thread.
    """
    import torch

    torch.set_num_threads(threads)
    for dtype in (torch.float32, torch.float64):
        one = torch.ones(1, dtype=dtype)
        for name in _FUNCTIONS:
            getattr(torch, name)(one)
