"""``python -m attnbench.put_back.program SETTINGS WORDS...``: runs a user's Python program with other attention.

SETTINGS are :class:`Settings` as JSON. WORDS are the program's own: the script, module or code, and its arguments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.capturing.program import code_of, exit_code, run_program
from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.nn import Module

    from attnbench.capturing.program import Start
    from attnbench.put_back.verified import Verified
    from attnbench.registry.implementation import Implementation

EXIT_USAGE, EXIT_NOTHING = 2, 5
_MOST_OUTPUTS = 64
"""Number of calls of outermost modules, from the first, whose outputs are compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that the command passes to the program's process."""

    implementation: str
    plugin: str | None
    rounds: int | None
    """Number of timings of the model with each attention; ``None`` if it is not compared with itself."""
    result: str
    """File to write the comparison into."""
    start: Start


def main() -> int:
    """Run the program, and return its exit code."""
    from attnbench.put_back.chosen import chosen
    from attnbench.runner.interrupts import raise_signals

    settings = Settings(**json.loads(sys.argv[1]))
    sys.argv[:] = sys.argv[2:]
    raise_signals()
    try:
        implementation = chosen(settings.implementation, settings.plugin)
    except UsageError as error:
        return _told(error)
    if settings.rounds is None:
        return _used(implementation, settings.start)
    return exit_code(lambda: _compared(implementation, settings))


def _told(error: UsageError) -> int:
    sys.stderr.write(f"attnbench: {error}\n")
    return EXIT_USAGE


def _used(implementation: Implementation, start: Start) -> int:
    from attnbench.put_back.use import Used

    used = Used(implementation)

    def run() -> None:
        with used:
            run_program(start)

    code = exit_code(run)
    sys.stderr.write(f"{used}\n")
    return code or (0 if used.calls else EXIT_NOTHING)


def _compared(implementation: Implementation, settings: Settings) -> None:
    try:
        found = _verified(implementation, settings)
    except UsageError as error:
        sys.exit(_told(error))
    Path(settings.result).write_text(json.dumps(dataclasses.asdict(found)), encoding="utf-8")


def _verified(implementation: Implementation, settings: Settings) -> Verified:
    from attnbench.put_back.outputs import equal_rows, float_tensors
    from attnbench.put_back.verify import verified

    program = _Program(settings.start)
    first, again = float_tensors(program()), float_tensors(program())
    if first.keys() != again.keys() or not all(bool(equal_rows(first[name], again[name]).all()) for name in first):
        raise UsageError("the program computes other outputs each time that it runs, so that nothing can be compared")
    return verified(program, implementation, settings.rounds or 1, program.seconds)


class _Program:
    """The program as a model: its outputs are those of its outermost modules, its time is theirs."""

    def __init__(self, start: Start) -> None:
        self._start, self._words = start, list(sys.argv)
        self._runs = 0
        self._seconds = 0.0

    def __call__(self) -> dict[str, object]:
        """Run it, and return the outputs of its outermost modules by the number of the call.

        Only the first run prints. All runs draw the same random numbers.

        Raises:
            SystemExit: if it fails.
            UsageError: if no output can be compared.
        """
        import numpy as np
        import torch

        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        sys.argv[:] = self._words
        quiet = contextlib.nullcontext() if self._runs == 0 else _silenced()
        self._runs += 1
        with quiet, _watched() as (outputs, seconds):
            try:
                run_program(self._start)
            except SystemExit as ended:
                if code_of(ended):
                    raise
        self._seconds = seconds()
        if not outputs:
            raise UsageError("the program calls no module of torch, whose outputs could be compared")
        return outputs

    def seconds(self, _program: object) -> float:
        """Run it, and return the seconds of its outermost modules and of backward passes."""
        self()
        return self._seconds


@contextlib.contextmanager
def _watched() -> Iterator[tuple[dict[str, object], Callable[[], float]]]:
    """Collect what outermost modules return in the block; the second value is a function that returns their seconds."""
    from torch import nn

    from attnbench.capturing.model_time import ModelTime
    from attnbench.interception.hooks.autograd import backward_passes
    from attnbench.put_back.outputs import float_tensors

    outputs: dict[str, object] = {}
    time, inside, original = ModelTime(), threading.local(), nn.Module.__call__

    def call(module: Module, *args: Any, **kwargs: Any) -> Any:
        if getattr(inside, "a_module", False):
            return original(module, *args, **kwargs)
        inside.a_module = True
        try:
            with time.running():
                returned = original(module, *args, **kwargs)
        finally:
            inside.a_module = False
        if len(outputs) < _MOST_OUTPUTS:
            outputs[f"call {len(outputs) + 1}"] = float_tensors(returned)
        return returned

    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        with backward_passes(time.running):
            yield outputs, lambda: time.seconds
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


if __name__ == "__main__":
    sys.exit(main())
