"""From the rounds of a revision and its anchor to points, and from gates of two commits to judgements."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from attnbench.gate.folders import open_folder
from attnbench.gate.gate import identical_result, run_gate
from attnbench.gate.judge.cell_data import log_ratios, observe
from attnbench.gate.judge.statistics import effects_of
from attnbench.gate.judge.verdicts import is_refused
from attnbench.gate.measure.rounds import GateError, run_rounds
from attnbench.gate.measure.source import SideError
from attnbench.history.confirming import Judgement
from attnbench.history.point import ALL, Point, segment_of
from attnbench.stages.agreement import JUDGED_TENSORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from attnbench.gate.gate import GatePlan
    from attnbench.gate.judge.cell_data import Observed, SideOfCell
    from attnbench.gate.judge.inference import Effect
    from attnbench.gate.measure.rounds import GateObserver, Round, SideName
    from attnbench.gate.measure.side import Side
    from attnbench.gate.verdict import GateResult, Verdict
    from attnbench.history.changes.candidates import Candidate
    from attnbench.history.point import CellName, Segment
    from attnbench.history.revisions import Commit
    from attnbench.runner.planning.request import Request
    from attnbench.store.header import Header

_UNJUDGED = frozenset({"ambiguous", "not_measured", "not_comparable", "invalid"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The lines that one revision adds."""

    segment: Segment
    points: Sequence[Point]


def sweep_of(request: Request) -> str:
    """Return a hash of the request, so that points of different selections are kept apart."""
    asked = {**request.to_dict(), "plugins": len(request.plugins), "cells": []}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:8]


def software_of(environment: Mapping[str, Any], threads: int) -> dict[str, str]:
    """Return the facts that define a segment: versions of libraries, interpreter and system, and number of threads."""
    named = {
        name: environment.get(name)
        for name in ("os", "kernel", "libc", "python", "python_implementation", "cxx_compiler")
    }
    known = {**named, **(environment.get("versions") or {}), "threads": threads}
    return {name: str(value) for name, value in known.items() if value is not None}


def measure(
    commit: Commit,
    anchor: Commit,
    sides: tuple[Side, Side],
    request: Request,
    rounds: int,
    folder: Path,
    observer: GateObserver,
    *,
    seed: int,
) -> Measured:
    """Measure a revision and its anchor in the same rounds; complete rounds in the folder are reused.

    ``sides`` are those of anchor and revision, prepared; ``seed`` determines their order.

    Raises:
        GateError: if a round fails.
    """
    stage = f"{commit.revision[:10]}-{sides[1].identity[:8]}"
    done = run_rounds(
        stage, rounds, {"base": sides[0], "head": sides[1]}, request, folder, observer, seed=seed
    )  # fmt: skip
    return measured_of(done, (anchor, commit), (sides[0].identity, sides[1].identity), sweep_of(request))


def measured_of(
    rounds: Sequence[Round], commits: tuple[Commit, Commit], codes: tuple[str, str], sweep: str
) -> Measured:
    """Return the lines of finished rounds: a point per cell for the revision, and one for the anchor."""
    base, head = rounds[0].base.header, rounds[0].head.header
    segment = segment_of(_facts(base, head))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def point(
        which: Literal[0, 1], cell: CellName, label: str, side: SideOfCell | None, effect: Effect | None
    ) -> Point:
        commit = commits[which]
        return Point(
            revision=commit.revision, place=commit.place, date=commit.date, subject=commit.subject,
            anchor=commits[0].revision, segment=segment.segment, sweep=sweep, code=codes[which], measured_at=now,
            rounds=len(rounds), case_id=cell[0], implementation=cell[1], device=cell[2], label=label,
            log_ratio=_short(effect.mean) if effect else None, se=_short(effect.se) if effect else None,
            status="ok" if side is None else side.status, **({} if side is None else _readings(side)),
        )  # fmt: skip

    points: list[Point] = []
    cells = [cell for cell in observe(rounds).values() if not is_refused(cell)]
    effects = _effects(cells)
    for cell in cells:
        points.append(point(1, cell.key, cell.label, cell.head, effects.get(cell.key)))
        points.append(point(0, cell.key, cell.label, cell.base, None))
    for device in dict.fromkeys(cell.key[2] for cell in cells):
        everything = (ALL, ALL, device)
        if everything in effects:
            points.append(point(1, everything, f"all cells on {device}", None, effects[everything]))
            points.append(point(0, everything, f"all cells on {device}", None, None))
    return Measured(segment=segment, points=points)


def _facts(base: Header, head: Header) -> dict[str, str]:
    """Return the revision's software, plus the anchor's where it differs, since the ratio depends on both."""
    theirs, ours = (software_of(header.environment, header.threads) for header in (base, head))
    return ours | {f"anchor's {name}": value for name, value in theirs.items() if ours.get(name) != value}


def _effects(cells: Sequence[Observed]) -> dict[tuple[str, str, str], Effect]:
    """Return the effect of each cell, and of the shift that a device's cells share."""
    found: dict[tuple[str, str, str], Effect] = {}
    for device in dict.fromkeys(cell.key[2] for cell in cells):
        timed = [cell for cell in cells if cell.key[2] == device and cell.both_ok]
        effects, shift = effects_of(log_ratios(timed))
        found |= {cell.key: effect for cell, effect in zip(timed, effects, strict=True) if effect is not None}
        if shift is not None:
            found[ALL, ALL, device] = shift
    return found


class _Readings(TypedDict, total=False):
    time_ns: float | None
    memory_peak_bytes: int | None
    memory_resolution_bytes: int | None
    error_ratio: float | None
    first_call_ns: float | None


def _readings(side: SideOfCell) -> _Readings:
    records = [record for record in side.records if record is not None and record["status"] == "ok"]
    errors = [record[f"{one}_error_ratio"] for record in side.records if record for one in JUDGED_TENSORS]
    first = [record["first_call_ns"] for record in records if record["first_call_ns"]]
    return {
        "time_ns": _short(side.time_ns),
        "memory_peak_bytes": min(side.peaks, default=None),
        "memory_resolution_bytes": side.resolution_bytes or None,
        "error_ratio": _short(max((error for error in errors if error is not None), default=None)),
        "first_call_ns": min(first, default=None),
    }


def _short(value: float | None) -> float | None:
    """Round to six significant digits: times are not known more precisely, and lines stay short."""
    return None if value is None else float(f"{value:.6g}")


@dataclasses.dataclass(kw_only=True)
class GateJudge:
    """Compares commits by gates, each pair once, however many cells need it."""

    side_of: Callable[[str], Side]
    """Prepares a revision."""
    plan_of: Callable[[dict[SideName, Side]], GatePlan]
    folder_of: Callable[[GatePlan], Path]
    observer: GateObserver
    command: Sequence[str]
    says: Callable[[str], None]
    _done: dict[tuple[str, str], GateResult | str] = dataclasses.field(default_factory=dict)
    """Results by pair of commits, or the reason why there is none."""

    def judge(self, candidate: Candidate, base: str, head: str) -> Judgement:
        """Judge the candidate's cell at two commits."""
        if (base, head) not in self._done:
            self._done[base, head] = self._gate(base, head)
        result = self._done[base, head]
        if isinstance(result, str):
            return Judgement(decision="cannot_tell", sentence=result)
        return judgement_of(result, candidate)

    def _gate(self, base: str, head: str) -> GateResult | str:
        try:
            plan = self.plan_of({"base": self.side_of(base), "head": self.side_of(head)})
            if plan.sides["base"].identity == plan.sides["head"].identity:
                return identical_result(plan, self.command)
            folder = self.folder_of(plan)
            open_folder(folder, plan.to_dict(), self.says)
            return run_gate(plan, folder, self.observer, self.command)
        except (SideError, GateError) as error:
            self.says(f"{head[:10]} against {base[:10]}: {error}")
            return str(error)


def judgement_of(result: GateResult, candidate: Candidate) -> Judgement:
    """Return a gate's answer on the candidate's cell and metric."""
    if result.identical:
        return Judgement(decision="same", sentence=result.sentence)
    own = [one for one in result.all_verdicts if _is_of(one, candidate)]
    found = [one for one in own if one.metric == candidate.metric]
    wanted = [one for one in found if one.verdict in candidate.verdicts]
    if wanted:
        one = wanted[0]
        return Judgement(
            decision="changed", verdict=one.verdict, sentence=one.sentence, ratio=one.ratio or None,
            ratio_low=one.ratio_low or None, ratio_high=one.ratio_high or None,
        )  # fmt: skip
    if candidate.metric == "outcome":
        return Judgement(decision="same", sentence=found[0].sentence if found else "both sides are as they were")
    if not found or found[0].verdict in _UNJUDGED:  # a wrong or lost cell has an outcome instead of a time
        sentences = [one.sentence for one in (*found, *own)] or ["there is no verdict on it"]
        return Judgement(decision="cannot_tell", sentence=sentences[0])
    return Judgement(decision="same", verdict=found[0].verdict, sentence=found[0].sentence)


def _is_of(one: Verdict, candidate: Candidate) -> bool:
    case_id, implementation, device = candidate.cell
    if case_id == ALL:
        return one.case_id is None and one.device == device
    return (one.case_id, one.implementation, one.device) == (case_id, implementation, device)
