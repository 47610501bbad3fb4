"""``attnbench.api.history.show`` and ``page``: read a history."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.api.history.results import HistoryPage, ShownHistory
from attnbench.api.history.shared import path_of_this_machine
from attnbench.errors import UsageError

if TYPE_CHECKING:
    import os

    from attnbench.history.store import History


def show(
    *,
    since: str | None = None,
    file: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> ShownHistory:
    """Show each cell over commits in a line, the confirmed changes, and the worst since a revision.

    Args:
        since: the revision that the table of the worst begins at; default the oldest that was measured.
        file: a history; default this machine's.
        folder: where histories are kept; default ``results/history``.

    Raises:
        UsageError: there is none.
    """
    path, history = of_this_machine(file, folder)
    return ShownHistory(path, history, _revision(since, history))


def page(
    *,
    since: str | None = None,
    file: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    link: str | None = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> HistoryPage:
    """Write a history as a page that opens offline: small multiples, segments, confirmed changes, the worst.

    Other arguments are those of :func:`show`.

    Args:
        link: address of a commit's diff, with ``{revision}`` for its hash; default as the remote ``origin`` has it.
        out: folder of the page; default ``reports/runs/history-MACHINE-KEY``.
        force: replace a page that is there already.

    Raises:
        UsageError: there is no history, the folder exists, or the extra ``report`` is not installed.
    """
    from attnbench.history.revisions import diff_link
    from attnbench.views.report.history_page import write_history_page

    path, history = of_this_machine(file, folder)
    link = diff_link(Path.cwd()) if link is None else link
    if link is not None and not link.startswith(("https://", "http://")):
        raise UsageError("--link is an address that begins with https:// and has {revision} in it")
    place = Path(out) if out is not None else Path("reports/runs") / f"history-{path.stem}"
    first = _revision(since, history)
    written = write_history_page(history, place, since=first, link=link, force=force)
    return HistoryPage(written, path, history, first)


def of_this_machine(
    file: str | os.PathLike[str] | None = None, folder: str | os.PathLike[str] | None = None
) -> tuple[Path, History]:  # fmt: skip
    """Read a history, without the points of other branches.

    Raises:
        UsageError: it has no points.
    """
    from attnbench.history.revisions import RevisionError, branch
    from attnbench.history.store import read_history

    path = Path(file) if file is not None else path_of_this_machine(folder)
    history = read_history(path)
    if not history.points:
        others = sorted(one.name for one in path.parent.glob("*.jsonl") if one != path)
        hint = f"; of other machines: --file {path.parent / others[0]}" if others and file is None else ""
        raise UsageError(f"{path} has no points yet: attnbench history add --since REV measures some{hint}")
    with contextlib.suppress(RevisionError):  # outside of its repository, all branches are shown
        own = history.on({commit.revision for commit in branch(Path.cwd())})
        if own.points:
            left = len({one.revision for one in history.points}) - len({one.revision for one in own.points})
            said = [f"{left} revisions of other branches are left out"] if left else []
            return path, dataclasses.replace(own, warnings=[*own.warnings, *said])
    return path, history


def _revision(name: str | None, history: History) -> str | None:
    """Return the measured revision at or before the named one, or the oldest if there is none."""
    if name is None:
        return None
    from attnbench.history.revisions import branch, commit_of

    measured = {point.revision: point.place for point in history.points}
    begins = [one for one in measured if one.startswith(name.lower())]
    if begins:
        return begins[0]
    here = Path.cwd()
    place = commit_of(name, here, branch(here)).place
    before = [one for one, at in measured.items() if at <= place]
    return max(before, key=lambda one: measured[one]) if before else min(measured, key=lambda one: measured[one])
