"""A cell's time line as Chrome trace events, which Perfetto opens too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attnbench.profiling.phases import TITLES, Phase
from attnbench.profiling.timeline import CALLS, LANES, OPERATORS, PYTHON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.profiling.parts import Span
    from attnbench.store.profile import CellProfile

Event = dict[str, Any]
"""A trace event in Chrome's format."""
_PROCESS = 1
_TITLES: Mapping[str, str] = {phase.value: title for phase, title in TITLES.items()}


def trace_json(cell: CellProfile) -> str:
    """Return lanes as named threads, spans as complete events, and memory as a counter, in microseconds.

    Memory was recorded in a separate call, which follows the others. If operators are missing, a label of the process
    says why.
    """
    present = {span.lane for span in cell.timeline}
    lanes = [*(lane for lane in LANES if lane in present), *sorted(present - set(LANES))]
    number = {lane: index for index, lane in enumerate(lanes, start=1)}
    named = [_name("process_name", 0, f"{cell.implementation}, {cell.label}")]
    if cell.no_operators:
        named.append(_name("process_labels", 0, cell.no_operators, key="labels"))
    for lane, index in number.items():
        named += [_name("thread_name", index, lane), _name("thread_sort_index", index, index)]
    events = [
        _event("X", span.start_ns, name=_TITLES.get(span.name, span.name), cat=_category(span))
        | {"tid": number[span.lane], "dur": max(0, span.end_ns - span.start_ns) / 1e3}
        for span in cell.timeline
    ]
    if cell.memory is not None:
        points, began_ns = cell.memory.points, cell.memory.began_ns or 0
        events += [_event("C", began_ns + one.at_ns, name="footprint", args={"bytes": one.bytes}) for one in points]
    events.sort(key=lambda event: (event["ts"], -event.get("dur", 0.0)))
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": [*named, *events]}, allow_nan=False)


def _event(kind: str, at_ns: int, **more: Any) -> Event:
    return {"ph": kind, "pid": _PROCESS, "tid": 0, "ts": at_ns / 1e3, **more}


def _name(kind: str, thread: int, value: str | int, key: str = "name") -> Event:
    key = "sort_index" if isinstance(value, int) else key
    return {"ph": "M", "pid": _PROCESS, "tid": thread, "name": kind, "args": {key: value}}


def _category(span: Span) -> str:
    if span.lane.startswith(OPERATORS):
        return "operator"
    if span.lane in (CALLS, PYTHON):
        return "call"
    return "phase" if span.name in set(Phase) else "harness"
