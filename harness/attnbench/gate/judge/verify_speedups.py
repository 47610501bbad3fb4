"""Large speed-ups are checked on other inputs, against the oracle and the roofline, before they are reported.

A kernel that skips work is fast. Every run of the gate judges agreement on the outputs that were timed; in addition,
head computes these cells on inputs of another seed, in a run that measures the machine's peaks, so that a rate above
them is ``invalid``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.gate.measure.rounds import run_once
from attnbench.store.record import key_of
from attnbench.units import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from attnbench.gate.judge.cell_data import Observed
    from attnbench.gate.measure.rounds import GateObserver
    from attnbench.gate.measure.side import Side
    from attnbench.gate.verdict import Verdict
    from attnbench.runner.planning.request import Request
    from attnbench.store.record import CellKey, Fields

SUSPICIOUS = 0.8
"""A speed-up is checked if head over base is below this ratio."""
_OTHER_SEED = 1_000_003


def check_speed_ups(
    verdicts: Sequence[Verdict],
    cells: Mapping[CellKey, Observed],
    head: Side,
    request: Request,
    folder: Path,
    observer: GateObserver,
) -> list[Verdict]:
    """Check each large speed-up and return the verdicts, those that fail turned into ``wrong`` or ``invalid``.

    Raises:
        GateError: if the run for the check cannot be made.
    """
    doubted = [one for one in verdicts if is_suspicious(one)]
    if not doubted:
        return list(verdicts)
    elsewhere = {_key(one): other_inputs(cells[_key(one)]) for one in doubted}
    asked = dataclasses.replace(
        request,
        overrides={**request.overrides, "seed": [str(_OTHER_SEED)]},
        plugins=(*request.plugins, *head.plugins),
        cells=tuple(elsewhere.values()),
        replicates=1,
    )
    observer.begins(f"checking {count(len(doubted), 'large speed-up')} on other inputs")
    run = run_once(head, asked, folder / "runs" / "doubt-1-head.jsonl", peaks="quick")
    observer.ended()
    found = {" ".join(key_of(record)): record for record in run.records}
    checked = {key: found.get(name) for key, name in elsewhere.items()}
    return [believed(one, checked[_key(one)]) if is_suspicious(one) else one for one in verdicts]


def is_suspicious(one: Verdict) -> bool:
    """Whether a verdict is a speed-up large enough to be checked."""
    return one.metric == "time" and one.verdict == "faster" and one.ratio is not None and one.ratio < SUSPICIOUS


def other_inputs(cell: Observed) -> str:
    """Return the name of the same cell with inputs of another seed."""
    return f"{dataclasses.replace(cell.case, seed=_OTHER_SEED).case_id} {cell.key[1]} {cell.key[2]}"


def believed(one: Verdict, record: Fields | None) -> Verdict:
    """Return the verdict on a speed-up after its check; ``record`` is that of the other inputs."""
    if record is None:
        return _spoiled(one, "invalid", "the check on other inputs gave no record")
    if record["status"] == "ok":
        share = record["percent_of_peak"]
        roof = f" and at {share:.0f} % of the machine's measured peak" if share is not None else ""
        return one.model_copy(update={"sentence": f"{one.sentence}; right on other inputs, too{roof}"})
    verdict = "wrong" if record["status"] == "wrong" else "invalid"
    spoiled = _spoiled(one, verdict, f"on other inputs it is {record['status']}: {record['reason']}")
    return spoiled.model_copy(update={"repro": record["repro"]})  # only these inputs show it, the gate's do not


def _spoiled(one: Verdict, verdict: str, why: str) -> Verdict:
    return one.model_copy(update={"verdict": verdict, "sentence": f"not believed, because {why} ({one.sentence})"})


def _key(one: Verdict) -> CellKey:
    return (one.case_id or "", one.implementation or "", one.device)
