"""The footprint of one call by line of Python: the kernel's high-water mark is read and reset at each line.

The highest footprint of each line is thus exact within the counter's lag, however short it was; what happens within a
line of compiled code has no time of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.profiling.parts import MemoryOfCall, MemoryPoint
from attnbench.profiling.recording import shown_path
from attnbench.worker.memory import weighing

if TYPE_CHECKING:
    from types import FrameType

METHOD = "high-water mark of the resident set, read and reset at each line of Python"
_MOST_POINTS = 2000
TraceFunction = Callable[["FrameType", str, object], Any]


def memory_by_line(
    call: Callable[[], object], set_up: Callable[[], object], files: frozenset[str], begins_ns: int
) -> MemoryOfCall:
    """Make a call, and record its footprint over time.

    Only lines of ``files`` are distinguished; the time line begins at ``begins_ns`` of the monotonic clock.

    Raises:
        weighing.UnsettledError: see :func:`attnbench.worker.memory.weighing.peak_of`.
        OSError: the mark cannot be read or reset.
    """
    watch = _Watch(files)
    weighing.peak_of(lambda: watch.follow(call), set_up=set_up)  # for its settings; the watch resets the mark
    points, note = watch.points, None
    if len(points) > _MOST_POINTS:
        points, note = points[:_MOST_POINTS], f"of {len(points)} readings the first {_MOST_POINTS} are kept"
    seen = max((point.bytes for point in watch.points), default=0)
    return MemoryOfCall(
        method=METHOD, points=tuple(points), peak_bytes=seen, exact_peak_bytes=None, note=note,
        began_ns=watch.began_ns - begins_ns,
    )  # fmt: skip


class _Watch:
    """Follows calls, and keeps the points of the last one."""

    def __init__(self, files: frozenset[str]) -> None:
        self._files = files
        self.points: list[MemoryPoint] = []
        self._line = ""
        self.began_ns = self._before = self._since = 0

    def follow(self, call: Callable[[], object]) -> object:
        """Make a call, and record its points."""
        self.points, self._line = [], ""
        self.began_ns, self._before = time.monotonic_ns(), weighing.resident_bytes()
        self._since = 0
        sys.settrace(self._call)
        try:
            result = call()
        finally:
            sys.settrace(None)
        self._read()
        return result

    def _read(self) -> None:
        """Add two points for the line that ends: its highest footprint, and the footprint at its end."""
        now = time.monotonic_ns() - self.began_ns
        left = weighing.resident_bytes() - self._before
        highest = max(left, weighing.high_water_mark_bytes() - self._before)
        self.points += [
            MemoryPoint(at_ns=self._since, bytes=highest, line=self._line),
            MemoryPoint(at_ns=now, bytes=left, line=self._line),
        ]
        self._since = now
        weighing.reset_high_water_mark()

    def _call(self, frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        return self._trace if frame.f_code.co_filename in self._files else None

    def _trace(self, frame: FrameType, event: str, arg: object) -> TraceFunction:
        if event in ("line", "return"):
            self._read()
            back = frame if event == "line" else frame.f_back
            inside = back is not None and back.f_code.co_filename in self._files
            self._line = f"{shown_path(back.f_code.co_filename)}:{back.f_lineno}" if back is not None and inside else ""
        return self._trace
