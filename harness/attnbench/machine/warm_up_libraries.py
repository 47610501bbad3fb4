"""Puts libraries into the state that they reach by themselves, before anything depends on it."""

from __future__ import annotations

_FUNCTIONS = ("exp", "expm1", "log", "log1p", "log2", "log10", "tanh", "sqrt", "erf", "sin", "cos")


def warm_up_torch(threads: int) -> None:
    """Set torch's threads, and let MKL choose its vector functions before several threads ask for them at once.

    The oneMKL that torch is built with picks the kernel of exp, log, ... at the first call, and not safely: when two
    threads make it together, one of them may compute its share of that single call with a kernel of low accuracy
    (https://github.com/pytorch/pytorch/issues/188792). attnbench saw it: a first call of unfused attention in float32
    whose second call differed, with errors 6 times the budget. A call on one element has no second thread.
    """
    import torch

    torch.set_num_threads(threads)
    for dtype in (torch.float32, torch.float64):
        one = torch.ones(1, dtype=dtype)
        for name in _FUNCTIONS:
            getattr(torch, name)(one)
