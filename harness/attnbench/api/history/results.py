"""Answers of :mod:`attnbench.api.history`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.api.results import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.history.adding import Added
    from attnbench.history.changes.candidates import Candidate
    from attnbench.history.point import Change
    from attnbench.history.revisions import Commit
    from attnbench.history.searching import Ended
    from attnbench.history.store import History


class ShownHistory(Answer):
    """A history, cell by cell."""

    def __init__(self, path: Path, history: History, since: str | None) -> None:
        from attnbench.views.history.tables import history_view

        super().__init__(lambda: history_view(history, path.stem, since))
        self.path = path
        self.history = history


class AddedRevisions(Answer):
    """A history to which revisions were added; ``ok`` if all requested revisions could be measured."""

    def __init__(self, path: Path, history: History, added: Added, messages: Sequence[str]) -> None:
        from attnbench.views.history.found import added_view

        super().__init__(lambda: added_view(added, path), ok=not added.failed)
        self.path = path
        self.history = history
        self.added = added
        self.exit_code = 4 if added.failed else 0
        """0 ok, 4 if a revision could not be measured."""
        self.messages = tuple(messages)


class HistoryPage(ShownHistory):
    """A page that was written."""

    def __init__(self, page: Path, path: Path, history: History, since: str | None) -> None:
        super().__init__(path, history, since)
        self.page = page
        """The page's ``index.html``."""


class FoundChanges(Answer):
    """A search of a history; ``ok`` if no commit made anything worse."""

    def __init__(
        self, candidates: Sequence[Candidate], ends: Sequence[Ended], line: Sequence[Commit], messages: Sequence[str]
    ) -> None:
        from attnbench.views.history.found import exit_code_of, found_view

        self.exit_code = exit_code_of(ends)
        """0 nothing became worse, 1 a commit made something worse, 6 something may have become worse, but this is
        undecided.
        """
        super().__init__(lambda: found_view(candidates, ends, line), ok=self.exit_code == 0)
        self.candidates = tuple(candidates)
        self.ends = tuple(ends)
        self.changes: tuple[Change, ...] = tuple(end.change for end in ends if end.change is not None)
        self.messages = tuple(messages)


class BisectedChange(Answer):
    """The end of a bisection; ``ok`` if it named one commit."""

    def __init__(self, end: Ended, line: Sequence[Commit], messages: Sequence[str]) -> None:
        from attnbench.views.history.found import found_view

        super().__init__(lambda: found_view([end.candidate], [end], line), ok=end.change is not None)
        self.exit_code = 0 if end.change is not None else 6
        """0 if one commit made the change, 6 if none was found or the gate could not tell."""
        self.change = end.change
        self.end = end
        self.messages = tuple(messages)
