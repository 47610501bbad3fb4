"""Copies of torch's Python functions without their dispatch to ``__torch_function__``."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_QUESTIONS = ("has_torch_function", "has_torch_function_unary")


def body_of(function: Any) -> Callable[..., Any]:
    """Return a copy that runs its own body even within a mode, so that the mode sees its inner calls."""
    without = {**function.__globals__, **dict.fromkeys(_QUESTIONS, lambda _: False)}
    own = types.FunctionType(function.__code__, without, function.__name__, function.__defaults__, function.__closure__)
    own.__kwdefaults__ = function.__kwdefaults__
    return own
