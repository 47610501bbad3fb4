"""Records torch's operators in some calls with torch.profiler, on the clock of the samples."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_MARKER = "attnbench call"
_LIKE_THE_REST_NS = 1e6


@dataclasses.dataclass(frozen=True)
class Operator:
    """One execution of an operator."""

    name: str
    thread: int | None
    """``None`` for the thread that makes the calls; else torch's number of the thread."""
    start_ns: int
    """On the monotonic clock."""
    end_ns: int


class NoOperatorsError(RuntimeError):
    """Operators are unknown. The message is a sentence that gives the reason."""


class OperatorClock:
    """A context manager that records the operators of torch within marked calls."""

    def __init__(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        self._profile: Any = profile(activities=[ProfilerActivity.CPU])

    def __enter__(self) -> OperatorClock:
        self._profile.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._profile.__exit__(kind, error, at)

    def marked(self, run: Callable[[], object]) -> Callable[[], object]:
        """Wrap a call in a profiler range, by which both clocks are aligned."""
        from torch.profiler import record_function

        @functools.wraps(run)
        def marked() -> object:
            with record_function(_MARKER):
                return run()

        return marked

    def operators(self, starts_ns: Sequence[int]) -> list[Operator]:
        """Return the operators in the order of their starts.

        ``starts_ns`` are the starts of the marked calls on the monotonic clock.

        Raises:
            NoOperatorsError: if torch recorded another number of calls, or its clock ran at another speed.
        """
        events = self._profile.events() or []
        found = [TorchEvent(one.name, one.thread, one.time_range.start, one.time_range.end) for one in events]
        return placed(found, starts_ns)


@dataclasses.dataclass(frozen=True)
class TorchEvent:
    """An event of torch.profiler; times are in microseconds since recording began."""

    name: str
    thread: int
    start_us: float
    end_us: float


def placed(events: Sequence[TorchEvent], starts_ns: Sequence[int]) -> list[Operator]:
    """Convert events to the monotonic clock, without those outside marked calls.

    Raises:
        NoOperatorsError: if the marks do not match the calls.
    """
    marks = sorted((event for event in events if event.name == _MARKER), key=lambda event: event.start_us)
    if len(marks) != len(starts_ns):
        raise NoOperatorsError(f"torch.profiler saw {len(marks)} of {len(starts_ns)} calls")
    offsets = [start - 1e3 * mark.start_us for mark, start in zip(marks, starts_ns, strict=True)]
    offset = statistics.median(offsets)
    if max(abs(one - offset) for one in offsets) > _LIKE_THE_REST_NS:
        raise NoOperatorsError("the clock of torch.profiler and that of the samples ran apart")
    main = marks[0].thread
    return [
        Operator(
            name=event.name,
            thread=None if event.thread == main else event.thread,
            start_ns=round(1e3 * event.start_us + offset),
            end_ns=round(1e3 * event.end_us + offset),
        )
        for event in sorted(events, key=lambda event: (event.start_us, -event.end_us))
        if event.name != _MARKER and any(mark.start_us <= event.start_us <= mark.end_us for mark in marks)
    ]
