"""Rounds: both sides in fresh processes, alternating (:mod:`attnbench.gate.measure.pair`), in balanced random order.

Each side's part of a round is kept as a run file. A run of a single side, with nothing to compare, is made by
``attnbench run``, started with the side's interpreter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from attnbench.errors import UsageError
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.registry.found import from_json
from attnbench.registry.sources import hash_of_files
from attnbench.runner.oracle import Oracle, OracleGoneError
from attnbench.store.header import Header
from attnbench.store.reader import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.gate.measure.side import Side
    from attnbench.registry.found import Found
    from attnbench.runner.planning.request import Request
    from attnbench.store.reader import RunFile

SideName = Literal["base", "head"]
SIDES: tuple[SideName, SideName] = ("base", "head")
_HAS_RECORDS = (0, 1, 4, 5)
"""Exit codes of runs that finished."""
_INTERRUPTED = (129, 130, 143)
MEMORY_ROUNDS = 2
"""Peak memory is nearly deterministic, so only the first rounds of a stage measure it."""


class GateError(UsageError):
    """A run of the gate failed; the message says where its output is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """Both sides' runs of one round."""

    stage: str
    number: int
    first: SideName
    """Side that began."""
    base: RunFile
    head: RunFile

    def of(self, side: SideName) -> RunFile:
        """Return one side's run."""
        return self.base if side == "base" else self.head


class GateObserver(Protocol):
    """Receives the progress of a gate."""

    def begins(self, what: str) -> None:
        """A run is about to start."""

    def ended(self) -> None:
        """A run has ended."""


def orders(rounds: int, seed: int) -> list[SideName]:
    """Choose which side begins in each round: ABBA or BAAB at random, so that a drift affects both sides alike."""
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
    observer: GateObserver,
    *,
    cells: Sequence[str] = (),
    seed: int = 0,
) -> list[Round]:
    """Run a stage of the gate, except for rounds that are already complete in the folder.

    Args:
        stage: ``screen`` or ``confirm``; names the run files.
        rounds: number of rounds.
        sides: the sides to compare.
        request: what to measure; each side's plug-ins are added.
        folder: where the run files go.
        observer: notified when a round begins and ends.
        cells: restrict the request to these, each as ``case_id implementation device``; empty for all of its cells.
        seed: of the orders of sides and cells.

    Raises:
        GateError: if a run cannot be made.
    """
    done = []
    with contextlib.closing(Oracle(request.threads, worker_environment(request.threads))) as oracle:
        for number, first in enumerate(orders(rounds, seed)):
            asked = dataclasses.replace(
                request,
                cells=tuple(cells) or request.cells,
                replicates=1,
                # Both sides measure the cells in the same order, and each round in another one.
                order_seed=random.Random(f"{seed}/{stage}/{number}").randrange(1, 2**31),
                stages=tuple(one for one in request.stages if one != "memory" or number < MEMORY_ROUNDS),
            )
            paths = {side: folder / f"{stage}-{number + 1}-{side}.jsonl" for side in SIDES}
            observer.begins(f"{stage} round {number + 1} of {rounds}")
            if not all(_is_done(path, asked) for path in paths.values()):
                _run_round(sides, asked, paths, first, oracle, observer)
            observer.ended()
            base, head = (read_run(paths[side]) for side in SIDES)
            done.append(Round(stage=stage, number=number, first=first, base=base, head=head))
    return done


def _is_done(path: Path, request: Request) -> bool:
    """Whether the file is a complete run of the same cells."""
    if not path.exists():
        return False
    before = read_run(path)
    return before.is_complete and before.header.request.get("cells") == list(request.cells)


def _run_round(
    sides: dict[SideName, Side], request: Request, paths: dict[SideName, Path], first: SideName, oracle: Oracle,
    observer: GateObserver,
) -> None:  # fmt: skip
    from attnbench.gate.measure.pair import Party, run_pair
    from attnbench.machine.device_lock import devices_to_ourselves

    parties: dict[SideName, Party] = {}
    for name, side in sides.items():
        asked = dataclasses.replace(request, plugins=(*request.plugins, *side.plugins))
        header = side_header(side, dataclasses.replace(asked, cells=(), order_seed=None), paths[name].parent)
        found = [from_json(one) for one in header.implementations.values()]
        parties[name] = Party(side=side, request=asked, header=header, found=found, path=paths[name])
    second: SideName = "head" if first == "base" else "base"
    try:
        with devices_to_ourselves(request.devices, observer.begins):
            run_pair(parties[first], parties[second], oracle)
    except (OSError, OracleGoneError) as error:
        raise GateError(f"a round could not be measured: {error}") from error
    for party in parties.values():
        _require_unchanged(party.found)


def _require_unchanged(found: Sequence[Found]) -> None:
    """Raise if a plug-in file was edited during the round, which was then measured partly before and partly after.

    Raises:
        GateError: if a file changed. Installed sides cannot change: their code was copied.
    """
    for one in found:
        if one.origin.kind == "file" and hash_of_files(one.files) != one.source_hash:
            raise GateError(f"{one.origin.target} changed while the gate ran: start it again, with another --out")


def side_header(side: Side, request: Request, folder: Path) -> Header:
    """Return the header of the side's runs; its interpreter is asked once, and the answer is kept in the folder.

    Raises:
        GateError: if the interpreter fails.
    """
    text = json.dumps(request.to_dict() | {"stages": []})
    known = hashlib.sha256(f"{side.python}\0{side.folder}\0{side.identity}\0{text}".encode()).hexdigest()[:12]
    path = folder / f"side-{known}.json"
    if not path.exists():
        _ask(side, request, path, (0,), ["attnbench.gate.measure.probe", _request_of(path), str(path.resolve())])
    return Header.model_validate_json(path.read_text(encoding="utf-8"))


def run_once(side: Side, request: Request, path: Path, *, peaks: str = "none") -> RunFile:
    """Run one side once, unless the path already has a complete run of the same cells.

    Raises:
        GateError: if the run fails.
    """
    if _is_done(path, request):
        return read_run(path)
    module = ["attnbench", "run", "--request", _request_of(path), "--peaks", peaks]
    _ask(side, request, path, _HAS_RECORDS, [*module, "--out", str(path.resolve()), "--force"])
    return read_run(path)


def _request_of(path: Path) -> str:
    """Return the path of the request that a file is made from; it exists only meanwhile."""
    return str(path.with_suffix(".request.json").resolve())


def _ask(side: Side, request: Request, path: Path, good: Sequence[int], module: Sequence[str]) -> None:
    """Run a module with the side's interpreter to make a file; the request and the log are deleted on success.

    Raises:
        GateError: if it cannot be started, or its exit code is not ``good``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    asked, log = Path(_request_of(path)), path.with_suffix(".log")
    asked.write_text(json.dumps(request.to_dict()), encoding="utf-8")
    code = _logged(side, [side.python, "-P", "-m", *module], log)
    if code not in good:
        raise GateError(f"{side.label} could not be measured: {_last_line(log, code)} (see {log})")
    asked.unlink()
    log.unlink()


def _logged(side: Side, command: Sequence[str], log: Path) -> int:
    """Run a command of the side with its output in the log, and return its exit code.

    Raises:
        GateError: if it cannot be started.
    """
    with log.open("w") as output:
        try:
            process = subprocess.Popen(
                command, cwd=side.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=os.environ | {"NO_COLOR": "1"},
            )  # fmt: skip
        except OSError as error:
            raise GateError(f"{side.label}: {side.python} cannot be started: {error.strerror}") from error
        try:
            code = process.wait()
        except BaseException:
            process.terminate()  # rather than kill: it must end its workers and remove its temporary folder
            process.wait()
            raise
    if code in _INTERRUPTED:
        raise KeyboardInterrupt
    return code


def _last_line(log: Path, code: int) -> str:
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
    return " ".join(last) or f"exit code {code}"
