"""``results/history/MACHINE-KEY.jsonl``: append-only lines, each independent of the others and of their order.

Git therefore merges two branches' files by keeping the lines of both (``merge=union`` in ``.gitattributes``), and a
truncated or damaged line loses nothing but itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from attnbench.errors import UsageError, first_mistake
from attnbench.history.point import LINE, Change, Point, Segment
from attnbench.store.writer import lock
from attnbench.untrusted.json_text import parse_json
from attnbench.untrusted.names import name_mistake
from attnbench.untrusted.printable import shown
from attnbench.untrusted.regular_file import append_line, read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from attnbench.history.point import CellName

FOLDER = Path("results/history")
MOST_BYTES = 1 << 28


class HistoryError(UsageError):
    """A history cannot be read or written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """Content of a file; duplicate lines, which a merge may leave, count once."""

    points: Sequence[Point] = ()
    segments: Sequence[Segment] = ()
    changes: Sequence[Change] = ()
    warnings: Sequence[str] = ()
    """Sentences on lines that were left out."""

    @property
    def cells(self) -> dict[CellName, str]:
        """Labels by cell, sorted by label."""
        found = {point.cell: point.label for point in self.points}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def facts_of(self, segment: str) -> Segment:
        """Return the software of a segment; without facts if the file has lost its line."""
        found = [one for one in self.segments if one.segment == segment]
        return found[0] if found else Segment(segment=segment, facts={})

    def on(self, revisions: Collection[str]) -> History:
        """Restrict the history to the given revisions, for points also of their anchor."""
        return dataclasses.replace(
            self,
            points=[point for point in self.points if point.revision in revisions and point.anchor in revisions],
            changes=[change for change in self.changes if change.revision in revisions],
        )


def history_path(machine_key: str, folder: Path = FOLDER) -> Path:
    """Return the path of a machine's history file.

    Raises:
        HistoryError: if the key cannot name a file.
    """
    if reason := name_mistake(machine_key):
        raise HistoryError(f"{shown(machine_key)} is no name for a machine: {reason}")
    return folder / f"{machine_key}.jsonl"


def read_history(path: Path) -> History:
    """Read a history; a missing file is an empty history.

    Raises:
        HistoryError: if the file cannot be read.
    """
    try:
        data = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        return History()
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror}") from error
    warnings = []
    found: dict[str, Point | Segment | Change] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            one = LINE.validate_python(parse_json(line.decode("utf-8")))
        except ValidationError as error:
            warnings.append(f"{path}, line {number} is left out: {first_mistake(error)}")
        except ValueError as error:
            warnings.append(f"{path}, line {number} is left out: it is no JSON ({str(error).splitlines()[0]})")
        else:
            found[one.text()] = one
    lines = list(found.values())
    return History(
        points=sorted((one for one in lines if isinstance(one, Point)), key=lambda one: (one.place, one.measured_at)),
        segments=list({one.segment: one for one in lines if isinstance(one, Segment)}.values()),
        changes=sorted((one for one in lines if isinstance(one, Change)), key=lambda one: (one.place, one.label)),
        warnings=warnings,
    )


def append(path: Path, lines: Sequence[Point | Segment | Change]) -> None:
    """Append lines in one write; a truncated last line is ended first.

    Raises:
        HistoryError: if they cannot be written.
    """
    if not lines:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.is_file() and path.stat().st_size > 0 and not read_regular(path, 1, tail=True).endswith(b"\n")
        append_line(path, "\n" * torn + "\n".join(sorted(one.text() for one in lines)))
    except OSError as error:
        raise HistoryError(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def only_writer(path: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Keep other processes from adding to a file meanwhile; the system releases the lock if the process dies.

    ``say`` is told if the folder lies where there are no locks.

    Raises:
        HistoryError: if another process holds the lock, or the folder cannot be opened or locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise HistoryError(f"{path.parent} cannot be opened: {error.strerror}") from error
    try:
        try:
            # Lock the folder rather than the file, which git replaces when it merges.
            unlocked = lock(descriptor, path.parent)
        except BlockingIOError:
            words = "is being written by another attnbench: wait until that has ended"
            raise HistoryError(f"{path.parent} {words}") from None
        except OSError as error:
            raise HistoryError(f"{path.parent} cannot be locked: {error.strerror}") from error
        if unlocked is not None:
            say(unlocked)
        yield
    finally:
        os.close(descriptor)
