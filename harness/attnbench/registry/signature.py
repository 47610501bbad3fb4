"""A function's own declaration: how it wants to be called, what it is, and where it was declared."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.untrusted.printable import in_one_line, shown

if TYPE_CHECKING:
    from collections.abc import Callable

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_LONGEST_SENTENCE = 10_000
_CALLS = "the function must take (q, k, v, case) or (q, k, v, case, plan)"


class SignatureError(ValueError):
    """A function cannot be called as implementations are; one sentence."""


def wants_plan(call: Callable[..., Any]) -> bool | None:
    """Whether a plan is given to a function; ``None`` where it takes whatever it is given.

    A fifth parameter is a plan if it is called so or has no default: ``block=64`` is the author's own.

    Raises:
        SignatureError: when neither four nor five arguments fit.
    """
    if inspect.isclass(call) or not callable(call):
        raise SignatureError(f"{_CALLS}, and this is {'a class' if inspect.isclass(call) else 'no function'}")
    parameters = _parameters(call)
    if parameters is None:
        return None
    positional = [one for one in parameters if one.kind in _POSITIONAL]
    required = [one for one in positional if one.default is inspect.Parameter.empty]
    takes_any = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
    by_name = [
        one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY and one.default is one.empty
    ]
    if by_name:
        raise SignatureError(f"{_CALLS}, and this one must be given {', '.join(by_name)} by name")
    if len(required) > 5 or (len(positional) < 4 and not takes_any):
        raise SignatureError(f"{_CALLS}, not {len(required) if len(required) > 5 else len(positional)} parameters")
    if len(positional) >= 5:
        return positional[4].name == "plan" or positional[4].default is inspect.Parameter.empty
    return None if takes_any else False


def takes_two(call: Callable[..., Any]) -> bool:
    """Whether a second argument is wanted."""
    parameters = _parameters(call)
    if parameters is None:
        return False
    required = [one for one in parameters if one.kind in _POSITIONAL and one.default is inspect.Parameter.empty]
    return len(required) >= 2


def documentation(call: Callable[..., Any]) -> str:
    """The docstring of what was written: of a partial, decorated or compiled function, or of an object's class."""
    written: Any = call
    while (inner := _inner(written)) is not None:
        written = inner
    if inspect.isroutine(written):
        return inspect.getdoc(written) or ""
    # The class's own: getdoc would find that of torch.nn.Module.
    return inspect.cleandoc(vars(type(written)).get("__doc__") or "")


def _inner(call: Any) -> Any:
    """The function that a partial, a decorated or a compiled one was made of, or ``None``."""
    if isinstance(call, functools.partial):
        return call.func
    return next((getattr(call, name) for name in ("__wrapped__", "_orig_mod") if hasattr(call, name)), None)


def file_of_caller() -> str:
    """The file of the nearest caller outside of this package, whose functions declare on behalf of others."""
    frame = inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).parent == Path(__file__).parent:
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def _parameters(call: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """``None`` where nobody can tell, as of some compiled functions."""
    # A torch.nn.Module passes on whatever it is given; what it wants is what its forward takes.
    forward = getattr(call, "forward", None)
    try:
        return list(inspect.signature(forward if inspect.ismethod(forward) else call).parameters.values())
    except (ValueError, TypeError):
        return None


class HookError(TypeError):
    """A hook returned something that attnbench cannot use; one sentence."""


def saying_so(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, checked to return a sentence or ``None``; an empty sentence counts as ``None``."""

    @functools.wraps(hook)
    def checked(*args: Any) -> str | None:
        said = hook(*args)
        if said is None or isinstance(said, str):
            return in_one_line(said)[:_LONGEST_SENTENCE] if said else None
        raise HookError(f"its hook {name!r} returned {shown(said)}, which is neither a string nor None")

    return checked
