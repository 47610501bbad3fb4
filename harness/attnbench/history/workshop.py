"""The workshop of a history: it builds revisions, and runs a gate on each pair."""

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
    """Makes revisions ready, each once."""

    here: Path
    """A folder of the repository."""
    cache: Path
    """The folder that keeps sides."""
    request: Request
    plan_of: Callable[[dict[SideName, Side]], GatePlan]
    plugins_of: Callable[[Path], Sequence[str]]
    """Plug-in files that a project's own configuration names, given its folder."""
    says: Callable[[str], None]
    command: Sequence[str]
    _sides: dict[str, Side] = dataclasses.field(default_factory=dict)

    def side(self, revision: str) -> Side:
        """A revision, ready to be measured.

        Raises:
            SideError: when it cannot be built.
        """
        if revision not in self._sides:
            source = resolve(revision, self.here)
            self._sides[revision] = prepare(source, self.cache, self.plugins_of, self.says)
        return self._sides[revision]

    def distinct(self, commits: Sequence[Commit]) -> list[Commit]:
        """Drop commits that cannot change a measurement, such as those of documentation only.

        A commit that cannot be a side, for want of a ``pyproject.toml``, say, stays: it is told when it is measured.
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
        """The gate as a judge of commits."""
        return GateJudge(
            side_of=self.side, plan_of=self.plan_of, folder_of=lambda plan: runs_folder("find", plan.to_dict()),
            observer=observer, command=self.command, says=self.says,
        )  # fmt: skip


def content_of(revision: str, here: Path) -> str | None:
    """Hash of all of a revision that could be measured; ``None`` where it cannot be a side."""
    from attnbench.gate.measure.source import SideError

    try:
        return resolve(revision, here).content
    except SideError:
        return None


def runs_folder(purpose: str, plan: Mapping[str, object]) -> Path:
    """The folder of a plan's run files: equal plans share one, so that complete files are kept."""
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return RUNS / f"history-{purpose}-{digest}"
