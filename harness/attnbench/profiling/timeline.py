"""The time line of the traced calls: the harness's activities, lines of Python, torch's operators, and each thread."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.profiling.parts import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.profiling.attribution import Attributed
    from attnbench.profiling.operators import Operator
    from attnbench.profiling.recording import Recording

HARNESS, CALLS, OPERATORS, PYTHON, MAIN = "harness", "calls", "operators", "lines of Python", "main thread"
LANES = ("stages", HARNESS, CALLS, OPERATORS, PYTHON, MAIN)
"""The lanes in order; other threads follow."""
_MOST_SPANS = 4000


def timeline(recording: Recording, found: Sequence[Attributed], operators: Sequence[Operator]) -> tuple[Span, ...]:
    """Return the spans of the traced calls, of the harness around them, and of what ran within them.

    ``found`` are the attributions of ``recording.traced.samples``.

    Returns:
        Spans in nanoseconds since ``recording.begins_ns``.
    """
    begin = recording.begins_ns
    spans = [Span(lane=HARNESS, name=one.name, start_ns=one.start_ns - begin, end_ns=one.end_ns - begin)
             for one in recording.markers]  # fmt: skip
    traced = recording.traced
    for number, (start, end) in enumerate(zip(traced.starts_ns, traced.ends_ns, strict=True), start=1):
        inside = [
            Span(lane=CALLS, name=f"call {number}", start_ns=start - begin, end_ns=end - begin),
            *_operator_spans(operators, start, end, begin),
            *_python_spans(recording, start, end),
            *_thread_spans(recording, found, start, end),
        ]
        if number > 1 and len(spans) + len(inside) > _MOST_SPANS:
            break
        spans += itertools.islice(inside, _MOST_SPANS)
    return tuple(sorted(spans, key=lambda span: (span.lane, span.start_ns, -span.end_ns)))


def _operator_spans(operators: Sequence[Operator], start: int, end: int, begin: int) -> Iterable[Span]:
    for one in operators:
        if start <= one.start_ns <= end:
            lane = OPERATORS if one.thread is None else f"{OPERATORS}, torch's thread {one.thread}"
            yield Span(lane=lane, name=one.name, start_ns=one.start_ns - begin, end_ns=one.end_ns - begin)


def _python_spans(recording: Recording, start: int, end: int) -> Iterable[Span]:
    begin = recording.begins_ns
    for since, until, (file, _, line) in recording.lines.between(start, end):
        name = f"{Path(file).name}:{line}"
        yield Span(lane=PYTHON, name=name, start_ns=since - begin, end_ns=until - begin)


def _thread_spans(recording: Recording, found: Sequence[Attributed], start: int, end: int) -> Iterable[Span]:
    """Yield a span per sample: the time since the thread's previous sample, at most a period."""
    begin = recording.begins_ns
    before: dict[int, int] = {}
    for sample, one in zip(recording.traced.samples, found, strict=True):
        if start <= sample.time_ns <= end:
            since = max(before.get(sample.thread, start), sample.time_ns - recording.period_ns, start)
            before[sample.thread] = sample.time_ns
            lane = MAIN if sample.thread == recording.main_thread else f"thread {sample.thread}"
            yield Span(lane=lane, name=one.phase, start_ns=since - begin, end_ns=sample.time_ns - begin)
