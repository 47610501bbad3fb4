"""The workshop of a history: it prepares revisions and runs gates on pairs of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.gate.measure.side import prepare
from attnbench.gate.measure.source import resolve
from attnbench.history.measuring import GateJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.gate.gate import GatePlan
    from attnbench.gate.measure.rounds import GateObserver, SideName
    from attnbench.gate.measure.side import Side
    from attnbench.history.revisions import Commit
    from attnbench.runner.planning.request import Request

RUNS = Path("results/gates")


@dataclasses.dataclass(kw_only=True)
class Workshop:
    """Prepares revisions, each once."""

    here: Path
    """A folder inside the repository."""
    cache: Path
    """Folder that keeps prepared sides."""
    request: Request
    plan_of: Callable[[dict[SideName, Side]], GatePlan]
    plugins_of: Callable[[Path], Sequence[str]]
    """Returns the plug-in files that a project's configuration names, given its folder."""
    says: Callable[[str], None]
    command: Sequence[str]
    _sides: dict[str, Side] = dataclasses.field(default_factory=dict)

    def side(self, revision: str) -> Side:
        """Prepare a revision for measuring.

        Raises:
            SideError: if it cannot be built.
        """
        if revision not in self._sides:
            source = resolve(revision, self.here)
            self._sides[revision] = prepare(source, self.cache, self.plugins_of, self.says)
        return self._sides[revision]

    def distinct(self, commits: Sequence[Commit]) -> list[Commit]:
        """Drop commits that cannot change a measurement, such as those of documentation only.

        A commit that cannot become a side (without a ``pyproject.toml``, say) is kept, to be reported when measured.
        """
        kept: list[Commit] = []
        before = None
        for commit in commits:
            content = content_of(commit.revision, self.here)
            if content is None or content != before:
                kept.append(commit)
            before = content
        return kept

    def judge(self, observer: GateObserver) -> GateJudge:
        """Return a judge that compares commits by gates."""
        return GateJudge(
            side_of=self.side, plan_of=self.plan_of, folder_of=lambda plan: runs_folder("find", plan.to_dict()),
            observer=observer, command=self.command, says=self.says,
        )  # fmt: skip


def content_of(revision: str, here: Path) -> str | None:
    """Return the hash of everything in a revision that could be measured; ``None`` if it cannot be a side."""
    from attnbench.gate.measure.source import SideError

    try:
        return resolve(revision, here).content
    except SideError:
        return None


def runs_folder(purpose: str, plan: Mapping[str, object]) -> Path:
    """Return the folder for a plan's run files; equal plans share it, so that complete files are reused."""
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return RUNS / f"history-{purpose}-{digest}"
