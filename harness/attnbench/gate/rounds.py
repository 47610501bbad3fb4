"""Rounds: both sides back to back, each a run in fresh processes, in balanced random order.

Every run is what ``attnbench run`` makes of a request, started with the side's interpreter, and stays as a run file.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
from typing import TYPE_CHECKING, Literal, Protocol

from attnbench.store.reader import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.gate.side import Side
    from attnbench.runner.request import Request
    from attnbench.store.reader import RunFile

SideName = Literal["base", "head"]
SIDES: tuple[SideName, SideName] = ("base", "head")
_HAS_RECORDS = (0, 1, 4, 5)
"""Exit codes of runs that came to their end."""
MEMORY_ROUNDS = 2
"""Memory is nearly deterministic: it is weighed in so many rounds of a stage only."""


class GateError(RuntimeError):
    """A run of the gate could not be made; the message says where its output is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """Both sides' runs of one round."""

    stage: str
    number: int
    first: SideName
    """The side that ran first."""
    base: RunFile
    head: RunFile

    def of(self, side: SideName) -> RunFile:
        """One side's run."""
        return self.base if side == "base" else self.head


class Observer(Protocol):
    """Who is told how the gate goes."""

    def begins(self, what: str) -> None:
        """A run is about to start."""

    def ended(self) -> None:
        """A run has ended."""


def orders(rounds: int, seed: int) -> list[SideName]:
    """Which side is first in each round: ABBA or BAAB by chance, so that a drift falls on both alike."""
    rng = random.Random(seed)
    first: list[SideName] = []
    while len(first) < rounds:
        one = rng.choice(SIDES)
        first += [one, "head" if one == "base" else "base"]
    return first[:rounds]


def run_rounds(
    stage: str,
    rounds: int,
    sides: dict[SideName, Side],
    request: Request,
    folder: Path,
    observer: Observer,
    *,
    cells: Sequence[str] = (),
    seed: int = 0,
) -> list[Round]:
    """Run a stage of the gate.

    Args:
        stage: ``screen`` or ``confirm``; names the run files.
        rounds: how many.
        sides: what is compared.
        request: what is measured; each side's plug-ins are added.
        folder: where the run files go. A run that is complete there already is not made again.
        observer: told how it goes.
        cells: only these, each as ``case_id implementation device``; all where empty.
        seed: of the orders.

    Raises:
        GateError: when a run cannot be made.
    """
    done = []
    for number, first in enumerate(orders(rounds, seed)):
        runs: dict[SideName, RunFile] = {}
        for side in (first, "head" if first == "base" else "base"):
            asked = dataclasses.replace(
                request,
                plugins=(*request.plugins, *sides[side].plugins),
                cells=tuple(cells),
                replicates=1,
                order_seed=_order_seed(stage, number, seed),
                stages=_stages(request.stages, number),
            )
            path = folder / f"{stage}-{number + 1}-{side}.jsonl"
            observer.begins(f"{stage} round {number + 1} of {rounds}, {side}")
            runs[side] = run_once(sides[side], asked, path)
            observer.ended()
        done.append(Round(stage=stage, number=number, first=first, base=runs["base"], head=runs["head"]))
    return done


def _stages(stages: Sequence[str], number: int) -> tuple[str, ...]:
    return tuple(stage for stage in stages if stage != "memory" or number < MEMORY_ROUNDS)


def _order_seed(stage: str, number: int, seed: int) -> int:
    """Both sides of a round have the same order of cells, and each round another one."""
    return random.Random(f"{seed}/{stage}/{number}").randrange(1, 2**31)


def run_once(side: Side, request: Request, path: Path, *, peaks: str = "none") -> RunFile:
    """One run of one side; a complete run of the same cells that is there already is not made again.

    Raises:
        GateError: when it cannot be made.
    """
    if path.exists():
        before = read_run(path)
        if before.is_complete and before.header.request.get("cells") == list(request.cells):
            return before
    path.parent.mkdir(parents=True, exist_ok=True)
    asked, log = path.with_suffix(".request.json"), path.with_suffix(".log")
    asked.write_text(json.dumps(request.to_dict()))
    command = [side.python, "-P", "-m", "attnbench", "run", "--request", str(asked.resolve()), "--peaks", peaks]
    command += ["--out", str(path.resolve()), "--force"]
    with log.open("w") as output:
        try:
            code = subprocess.run(
                command, cwd=side.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
                env=os.environ | {"NO_COLOR": "1"},
            ).returncode  # fmt: skip
        except OSError as error:
            raise GateError(f"{side.label}: {side.python} cannot be started: {error.strerror}") from error
    if code == 130:
        raise KeyboardInterrupt
    if code not in _HAS_RECORDS:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise GateError(f"{side.label} could not be measured: {' '.join(last) or f'exit code {code}'} (see {log})")
    asked.unlink()
    log.unlink()
    return read_run(path)
