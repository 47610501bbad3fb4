"""``make history-power``: measures under noise models how often the search of a history is wrong, and what it finds.

``python -m tests.history --page docs/history.md`` writes the table between the page's marks; it takes minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.history.simulated import COMMITS, KINDS, Kind, Outcome, search, stepped

BEGIN, END = "<!-- simulated: written by `make history-power` -->\n", "<!-- end of simulated -->\n"
SIZES = (0.05, 0.10)
EDGE = 5
"""Smallest number of commits between a step and either end."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The outcomes of the histories of one kind and size."""

    outcomes: Sequence[Outcome]
    at: Sequence[int]

    @property
    def count(self) -> int:
        return len(self.outcomes)

    @property
    def suspected(self) -> int:
        return sum(one.candidates > 0 for one in self.outcomes)

    @property
    def alarms(self) -> int:
        """Number of histories in which an unchanged commit was named."""
        return sum(any(name != at for name in one.named) for one, at in zip(self.outcomes, self.at, strict=True))

    @property
    def found(self) -> int:
        """Number of histories in which the changed commit was named."""
        return sum(at in one.named for one, at in zip(self.outcomes, self.at, strict=True))

    @property
    def gates(self) -> float:
        return float(np.mean([one.gates for one in self.outcomes]))


def simulate(kind: Kind, size: float, histories: int, seed: int = 0) -> Row:
    """Simulate ``histories`` histories; a size of 0 means no step."""
    rng = np.random.default_rng([seed, KINDS.index(kind), round(1000 * size)])
    outcomes, places = [], []
    for _ in range(histories):
        at = int(rng.integers(EDGE, COMMITS - EDGE))
        outcomes.append(search(stepped(size, at), kind, rng))
        places.append(at if size else -1)
    return Row(outcomes=outcomes, at=places)


def table(histories: int) -> str:
    """Return the table as Markdown."""
    head = ["noise of a point", "unchanged: candidate", "unchanged: alarm"]
    head += [
        part for size in SIZES for part in (f"{size:.0%}".replace("%", " %") + " step: named", "another named", "gates")
    ]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for kind in KINDS:
        none = simulate(kind, 0.0, histories)
        fields = [kind.title, share(none.suspected, none), share(none.alarms, none)]
        for size in SIZES:
            row = simulate(kind, size, histories)
            fields += [share(row.found, row), share(row.alarms, row), f"{row.gates:.1f}"]
        lines.append(f"| {' | '.join(fields)} |")
        sys.stderr.write(f"{lines[-1]}\n")
    return "\n".join([f"{histories} histories of {COMMITS} commits each:", "", *lines]) + "\n"


def share(count: int, row: Row) -> str:
    return f"{100 * count / row.count:.1f} %"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.history", description=__doc__)
    parser.add_argument("--histories", type=int, default=500)
    parser.add_argument("--page", type=Path, help="write the table into it, between its marks")
    given = parser.parse_args()
    text = table(given.histories)
    sys.stdout.write(text)
    if given.page:
        before, rest = given.page.read_text(encoding="utf-8").split(BEGIN)
        given.page.write_text(before + BEGIN + text + END + rest.split(END)[1], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
