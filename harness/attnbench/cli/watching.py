"""``--watch``: run again whenever a plug-in's file, or a file that it imports, changes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.untrusted.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.api import FinishedRun


def watch(measure: Callable[[FinishedRun | None], FinishedRun], show: Callable[[FinishedRun], int]) -> int:
    """Measure, show and wait for a change, until Ctrl-C ends the loop with the last run's exit code.

    Args:
        measure: makes a run, given the one before, if any.
        show: prints a run, and returns its exit code.

    Raises:
        UsageError: the first run cannot be made as requested, or has no plug-in whose files could change.
    """
    from attnbench.api import RunInterrupted
    from attnbench.registry.sources import hash_of_files
    from attnbench.registry.watching import plugin_files, wait_for_change
    from attnbench.views.answer.changes import changes

    finished = measure(None)
    code = show(finished)
    try:
        while True:
            files = plugin_files(finished.file.header.implementations)
            if not files:
                raise UsageError("--watch waits for a plug-in's file to change, and no plug-in was run")
            _says(
                f"waiting for a change of {files[0]}{f' and {len(files) - 1} more' if files[1:] else ''}; Ctrl-C ends"
            )
            known = _known_hash(finished, files) or hash_of_files(files)
            while True:
                known = wait_for_change(files, known)
                try:
                    latest = measure(finished)
                except UsageError as mistake:  # such as of an unfinished edit
                    _says(printable(str(mistake)))
                    continue
                break
            code = show(latest)
            for line in changes(finished.file, latest.file):
                _says(f"since the last time: {line}")
            finished = latest
    except RunInterrupted:  # in the middle of a run, which is reported as always
        raise
    except KeyboardInterrupt:
        return code


def _says(sentence: str) -> None:
    sys.stderr.write(f"attnbench: {sentence}\n")


def _known_hash(finished: FinishedRun, files: tuple[str, ...]) -> str | None:
    """Return the hash of the files as they were loaded, if a single implementation loaded all of them."""
    for about in finished.file.header.implementations.values():
        if tuple(about.get("files", ())) == files:
            return str(about.get("source_hash"))
    return None
