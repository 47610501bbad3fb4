"""Which line of an implementation's Python source ran when."""

from __future__ import annotations

import sys
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

TraceFunction = Callable[["FrameType", str, object], Any]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType, TracebackType

_CLOCK = time.monotonic_ns  # bound before a plug-in is imported, which may replace it
_MOST_LINES, _MOST_FRAMES = 2_000_000, 16


class LineClock:
    """While it is entered, notes when the calling thread begins each line of those files that it was told of.

    Args:
        files: paths, as code objects name them.
    """

    def __init__(self, files: frozenset[str]) -> None:
        self._files = files
        self._times: list[int] = []
        self._lines: list[tuple[tuple[CodeType, int], ...]] = []
        self._open: list[tuple[CodeType, int]] = []

    def __enter__(self) -> LineClock:
        sys.settrace(self._call)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        sys.settrace(None)

    def at(self, time_ns: int) -> tuple[tuple[str, str, int], ...]:
        """File, function and line at a time of the monotonic clock, innermost first; none outside of all."""
        place = bisect_right(self._times, time_ns) - 1
        lines = self._lines[place] if place >= 0 else ()
        return tuple((code.co_filename, code.co_qualname, number) for code, number in reversed(lines))

    def between(self, start_ns: int, end_ns: int) -> Iterator[tuple[int, int, tuple[str, str, int]]]:
        """Since when and until when each line ran in that time."""
        for place in range(max(0, bisect_right(self._times, start_ns) - 1), bisect_right(self._times, end_ns)):
            since = max(start_ns, self._times[place])
            until = min(end_ns, self._times[place + 1]) if place + 1 < len(self._times) else end_ns
            if self._lines[place] and until > since:
                code, number = self._lines[place][-1]
                yield since, until, (code.co_filename, code.co_qualname, number)

    def _note(self) -> None:
        if len(self._times) < _MOST_LINES:
            self._times.append(_CLOCK())
            self._lines.append(tuple(self._open[-_MOST_FRAMES:]))

    def _call(self, frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        if frame.f_code.co_filename not in self._files:
            return None
        self._open.append((frame.f_code, frame.f_lineno))
        return self._line

    def _line(self, frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        if event == "line":
            if self._open:
                self._open[-1] = (frame.f_code, frame.f_lineno)
            self._note()
        elif event == "return":
            if self._open:
                self._open.pop()
            self._note()
        return self._line
