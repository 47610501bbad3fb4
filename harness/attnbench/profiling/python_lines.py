"""Records which line of an implementation's Python source ran when."""

from __future__ import annotations

import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

TraceFunction = Callable[["FrameType", str, object], Any]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType, TracebackType

_CLOCK = time.monotonic_ns  # bound before any plug-in is imported, which might replace it
_MOST_LINES, _MOST_FRAMES = 2_000_000, 16


class _Notes:
    """The lines that one thread ran, by time."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.lines: list[tuple[tuple[CodeType, int], ...]] = []
        self.open: list[tuple[CodeType, int]] = []

    def note(self) -> None:
        """Record the stack of current lines from now on."""
        if len(self.times) < _MOST_LINES:
            self.times.append(_CLOCK())
            self.lines.append(tuple(self.open[-_MOST_FRAMES:]))

    def at(self, time_ns: int) -> tuple[tuple[str, str, int], ...]:
        """See :meth:`LineClock.at`."""
        place = bisect_right(self.times, time_ns) - 1
        lines = self.lines[place] if place >= 0 else ()
        return tuple((code.co_filename, code.co_qualname, number) for code, number in reversed(lines))


class LineClock:
    """A context manager that records when threads begin each line of given files.

    It follows the thread that enters it and those that Python starts meanwhile; from Python 3.12 on, also threads that
    already exist.

    Args:
        files: paths as in code objects.
    """

    def __init__(self, files: frozenset[str]) -> None:
        self._files = files
        self._main = _Notes()
        self._others: dict[int, _Notes] = {}
        self._local = threading.local()

    def __enter__(self) -> LineClock:
        self._local.notes = self._main
        self._follow(self._call)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._follow(None)

    def at(self, time_ns: int, thread: int | None = None) -> tuple[tuple[str, str, int], ...]:
        """Return file, function and line at a time, innermost first; empty outside all files.

        Args:
            time_ns: the time on the monotonic clock.
            thread: the system's id; if that thread ran no line, those of the thread that makes the calls are returned.
        """
        own = self._others.get(thread) if thread is not None else None
        return (own.at(time_ns) if own else ()) or self._main.at(time_ns)

    def between(self, start_ns: int, end_ns: int) -> Iterator[tuple[int, int, tuple[str, str, int]]]:
        """Yield start, end, and file, function and line, for each line that the thread that makes the calls ran."""
        times, lines = self._main.times, self._main.lines
        for place in range(max(0, bisect_right(times, start_ns) - 1), bisect_right(times, end_ns)):
            since = max(start_ns, times[place])
            until = min(end_ns, times[place + 1]) if place + 1 < len(times) else end_ns
            if lines[place] and until > since:
                code, number = lines[place][-1]
                yield since, until, (code.co_filename, code.co_qualname, number)

    @staticmethod
    def _follow(trace: TraceFunction | None) -> None:
        on_all = getattr(threading, "settrace_all_threads", threading.settrace)
        on_all(trace)
        sys.settrace(trace)

    def _notes(self) -> _Notes:
        """Return this thread's notes."""
        notes: _Notes | None = getattr(self._local, "notes", None)
        if notes is None:
            notes = self._others.setdefault(threading.get_native_id(), _Notes())
            self._local.notes = notes
        return notes

    def _call(self, frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        if frame.f_code.co_filename not in self._files:
            return None
        self._notes().open.append((frame.f_code, frame.f_lineno))
        return self._line

    def _line(self, frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        notes = self._notes()
        if event == "line":
            if notes.open:
                notes.open[-1] = (frame.f_code, frame.f_lineno)
            notes.note()
        elif event == "return":
            if notes.open:
                notes.open.pop()
            notes.note()
        return self._line
