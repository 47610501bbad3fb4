"""Progress on stderr: what is running, counts by status, time left. Messages are kept even if nothing is printed."""

from __future__ import annotations

import collections
import functools
import sys
import time
from typing import TYPE_CHECKING

from attnbench.api.disagreements import Disagreements, told
from attnbench.units import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.runner.planning.plan import Cell
    from attnbench.store.record import Record

_QUIET = ("ok", "unsupported", "unavailable", "skipped")
_STAGES = {
    "load": "importing", "prepare": "preparing", "call": "first call, which compiles where it has to",
    "agreement": "judging", "time": "timing", "memory": "weighing", "energy": "metering", "backend": "asking what ran",
}  # fmt: skip
_LONG_NS = 2e9
"""A longer first call is mentioned."""


class Log:
    """Messages for a person: all are kept, and written to stderr if progress is wanted."""

    def __init__(self, progress: bool | None, *, verbose: bool = False) -> None:
        self.aloud = sys.stderr.isatty() if progress is None else progress
        self.verbose = verbose
        self.messages: list[str] = []

    def says(self, sentence: str) -> None:
        """Show a message about the whole run."""
        self.writes(f"attnbench: {sentence}")

    def writes(self, line: str) -> None:
        """Show a line unchanged."""
        self.messages.append(line)
        if self.aloud:
            sys.stderr.write(f"{line}\n")

    def counts(self, done: int, total: int, what: str) -> None:
        """Show the progress of a step that takes seconds: one line of a terminal, which is removed at the end."""
        if self.aloud and sys.stderr.isatty():
            line = "" if done == total else f"{what}: {done} of {total}"
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()


class Progress:
    """A progress bar on a terminal, else a line for each cell that has run; and a few lines for each cell that failed.

    Only the first few disagreements of an implementation are printed.
    """

    def __init__(self, cells: Sequence[Cell], sampling_s: float, log: Log) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        from attnbench.runner.planning.plan import estimate_s

        self._log = log
        self._guess = functools.partial(estimate_s, sampling_s=sampling_s)
        self._left = sum(map(self._guess, cells))
        self._done = 0.0
        self._began = time.monotonic()
        self._counts: collections.Counter[str] = collections.Counter()
        self.disagreements = Disagreements()
        self.console = Console(stderr=True)
        self._bar = Bar(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}  {task.fields[counts]}  [dim]{task.description}[/]"),
            console=self.console,
            transient=True,
            disable=not (log.aloud and self.console.is_terminal),
            auto_refresh=False,  # a thread that repaints would wake up next to measured code
        )
        self._running: list[Cell] = []
        self._stage = ""
        self._ended = 0
        self._to_run = sum(cell.preset_outcome is None for cell in cells)
        self._task = self._bar.add_task("starting workers", total=len(cells), left="", counts="")

    def __enter__(self) -> Progress:
        self._bar.start()
        self._bar.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begins(self, cell: Cell) -> None:
        """Show what is running."""
        if cell.preset_outcome is None:
            self._running.append(cell)
            self._show_what_runs()

    def enters(self, cell: Cell, stage: str) -> None:
        """Show which stage is running."""
        del cell
        self._stage = _STAGES.get(stage, stage)
        self._show_what_runs()

    def _show_what_runs(self) -> None:
        names = [cell.found.name for cell in self._running]
        who = names[0] if len(names) == 1 else f"{len(names)} in turns"
        what = f"{who}: {self._running[0].case.label()}: {self._stage}" if names else ""
        self._bar.update(self._task, description=what)
        self._bar.refresh()

    def ended(self, cell: Cell, record: Record) -> None:
        """Count a cell, and report it if it failed."""
        if cell in self._running:
            self._running.remove(cell)
            self._show_what_runs()
        self._counts[record.status] += 1
        guess = self._guess(cell)
        self._left -= guess
        self._done += guess
        spent = time.monotonic() - self._began
        pace = spent / self._done if self._done else 1.0
        counts = " ".join(f"{count} {status}" for status, count in sorted(self._counts.items()))
        left = f"{max(0.0, self._left) * pace:.0f} s left" if self._done else ""
        self._bar.update(self._task, advance=1, counts=counts, left=left)
        if cell.preset_outcome is None:
            self._ended += 1
            did_run = record.status != "skipped"  # by --stop-at-first
            if did_run and self._log.aloud and not self.console.is_terminal:
                sys.stderr.write(f"{_line(self._ended, self._to_run, cell, record)}\n")
        in_full = self.disagreements.saw(cell.case, record)
        if record.status not in _QUIET and in_full:
            self.says(told(cell.case, record))

    def says(self, sentence: str) -> None:
        """Show a line above the bar."""
        if self._log.aloud and self.console.is_terminal:
            self._log.messages.append(sentence)
            self.console.print(sentence, highlight=False, markup=False)
        else:
            self._log.writes(sentence)


def _line(number: int, total: int, cell: Cell, record: Record) -> str:
    """Describe a cell that has run: its number, status and time, and its first call if that was long."""
    time_ns = record.time_median_ns
    taken = f"  {duration(time_ns)}" if time_ns is not None else ""
    first_ns = max(record.prepare_ns or 0, record.first_call_ns or 0)
    compiled = f"  (first call {duration(first_ns)})" if first_ns > _LONG_NS else ""
    return (
        f"{number:>{len(str(total))}}/{total}  {record.status}{taken}  {cell.found.name}  {cell.case.label()}{compiled}"
    )


class GateProgress:
    """One line on stderr for each run of a gate; on a terminal it stays in place."""

    def __init__(self, log: Log) -> None:
        self._aloud = log.aloud
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()

    def __enter__(self) -> GateProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._aloud and self._live:
            sys.stderr.write("\r\033[K")

    def begins(self, what: str) -> None:
        """Show what runs now."""
        if self._aloud:
            line = f"{time.monotonic() - self._began:5.0f} s  {what}"
            sys.stderr.write(f"\r\033[K{line}" if self._live else f"{line}\n")
            sys.stderr.flush()

    def ended(self) -> None:
        """Show nothing; the next line will."""
