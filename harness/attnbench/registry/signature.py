"""Properties of a function itself: its parameters, its docstring, and the file that declares it."""

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
    """A function cannot be called like an implementation."""


def wants_plan(call: Callable[..., Any]) -> bool | None:
    """Return whether a function takes a plan; ``None`` if it takes any arguments.

    A fifth parameter is a plan if it has that name or no default: ``block=64`` is the author's own.

    Raises:
        SignatureError: if neither four nor five arguments fit.
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
    """Whether a callable requires a second argument."""
    parameters = _parameters(call)
    if parameters is None:
        return False
    required = [one for one in parameters if one.kind in _POSITIONAL and one.default is inspect.Parameter.empty]
    return len(required) >= 2


def documentation(call: Callable[..., Any]) -> str:
    """Return the docstring of the code inside a partial, decorated or compiled function, or of an object's class."""
    written: Any = call
    while (inner := _inner(written)) is not None:
        written = inner
    if inspect.isroutine(written):
        return inspect.getdoc(written) or ""
    # The class's own: getdoc would find that of torch.nn.Module.
    return inspect.cleandoc(vars(type(written)).get("__doc__") or "")


def _inner(call: Any) -> Any:
    """Return the function inside a partial, decorated or compiled one, or ``None``."""
    if isinstance(call, functools.partial):
        return call.func
    return next((getattr(call, name) for name in ("__wrapped__", "_orig_mod") if hasattr(call, name)), None)


def file_of_caller() -> str:
    """Return the file of the nearest caller outside this package, whose functions declare on behalf of others."""
    frame = inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).parent == Path(__file__).parent:
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def _parameters(call: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the parameters of a callable; ``None`` if they are unknown, as for some compiled functions."""
    # A torch.nn.Module's __call__ accepts anything; its forward has the parameters.
    forward = getattr(call, "forward", None)
    try:
        return list(inspect.signature(forward if inspect.ismethod(forward) else call).parameters.values())
    except (ValueError, TypeError):
        return None


class HookError(TypeError):
    """A hook returned a value of the wrong type."""


def saying_so(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a hook to check that it returns a string or ``None``; an empty string becomes ``None``."""

    @functools.wraps(hook)
    def checked(*args: Any) -> str | None:
        said = hook(*args)
        if said is None or isinstance(said, str):
            return in_one_line(said)[:_LONGEST_SENTENCE] if said else None
        raise HookError(f"its hook {name!r} returned {shown(said)}, which is neither a string nor None")

    return checked
