"""Commits of a branch, by first parents, so that a merge is a single step."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.gate.measure.source import git, resolve
from attnbench.untrusted.printable import in_one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_GITHUB = re.compile(r"^(?:https://|ssh://git@|git@)(?P<host>[\w.-]+)[:/](?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?/?$")
_SUBJECT = 200


class RevisionError(UsageError):
    """A revision is unusable for a history, such as one outside the branch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit of the branch."""

    revision: str
    place: int
    """Number of first parents before it."""
    date: str
    subject: str


def branch(folder: Path, until: str = "HEAD") -> list[Commit]:
    """Return the commits that lead to a revision, oldest first.

    Raises:
        RevisionError: if there is no repository, the revision is unknown, or the clone is shallow, so that places would
            be wrong.
    """
    if git(folder, "rev-parse", "--git-dir") is None:
        raise RevisionError("this is no git repository: a history is one of commits")
    if git(folder, "rev-parse", "--is-shallow-repository") == "true":
        raise RevisionError("the clone is shallow, and a history needs all of it: git fetch --unshallow")
    tip = resolve(until, folder).commit
    if tip is None:
        raise RevisionError(f"{until} is no revision of this repository")
    told = git(folder, "log", "--first-parent", "--reverse", "--format=%H%x00%cI%x00%s", tip) or ""
    found = []
    for place, line in enumerate(told.split("\n")):
        revision, date, subject = line.split("\0", 2)
        found.append(Commit(revision=revision, place=place, date=date, subject=in_one_line(subject)[:_SUBJECT]))
    return found


def commit_of(name: str, folder: Path, line: Sequence[Commit]) -> Commit:
    """Resolve a revision name to its commit on a branch.

    Raises:
        RevisionError: if it is unknown, or not on the branch.
    """
    revision = git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    found = [commit for commit in line if commit.revision == revision]
    if not found:
        what = "is no revision that git knows here" if revision is None else "is no first parent of the branch"
        raise RevisionError(f"{name} {what}")
    return found[0]


def touching(folder: Path, line: Sequence[Commit], paths: Sequence[str]) -> list[Commit]:
    """Return the commits that change a file below one of the paths; all commits if no paths are given.

    Raises:
        RevisionError: if no commit does.
    """
    if not paths:
        return list(line)
    tip = line[-1].revision
    told = git(folder, "log", "--first-parent", "--format=%H", tip, "--", *paths) or ""
    names = set(told.split())
    if not names:
        raise RevisionError(f"no commit touches {', '.join(paths)}")
    return [commit for commit in line if commit.revision in names]


def diff_link(folder: Path) -> str | None:
    """Return the address of a commit's diff, with ``{revision}`` for its hash, guessed from the remote ``origin``."""
    match = _GITHUB.match(git(folder, "remote", "get-url", "origin") or "")
    return f"https://{match['host']}/{match['name']}/commit/{{revision}}" if match else None
