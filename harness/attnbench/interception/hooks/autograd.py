"""Hooks into the start of backward passes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def backward_passes(around: Callable[[], contextlib.AbstractContextManager[object]]) -> Iterator[None]:
    """Wrap each backward pass within the block in a context, whichever function starts it."""
    import torch
    from torch import autograd

    from attnbench.interception.hooks.bodies import body_of

    functions: dict[str, Callable[..., object]] = {"backward": autograd.backward, "grad": autograd.grad}

    def within(function: Callable[..., object]) -> Callable[..., object]:
        def run(*args: Any, **kwargs: Any) -> object:
            with around():
                return function(*args, **kwargs)

        return run

    for name, function in functions.items():
        setattr(torch.autograd, name, within(body_of(function)))
    try:
        yield
    finally:
        for name, function in functions.items():
            setattr(torch.autograd, name, function)
