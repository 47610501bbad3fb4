"""Gate against a stored run, for when both sides cannot be measured on one machine at the same time.

Runs of different days are not paired. A shift that all cells share may come from the machine as well as from the code:
it is removed and reported, but not tested. Tolerances are doubled, and a run of another machine is refused.
"""

from __future__ import annotations

import dataclasses
import math
import time
from os.path import relpath
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.errors import NotComparableError
from attnbench.gate.baselines import not_of_one_machine
from attnbench.gate.gate import GatePlan, grown_cells, growth_verdicts, result_of, side_facts, verdicts_of
from attnbench.gate.judge.cell_data import Observed, SideOfCell
from attnbench.gate.judge.inference import LEAST_ROUNDS, Effect, estimate_unpaired
from attnbench.gate.judge.statistics import (
    LEAST_CELLS_TO_CENTRE,
    Rules,
    choose_sentinels,
    decide,
    screen_effects,
)
from attnbench.gate.judge.verdicts import is_refused
from attnbench.gate.judge.verify_speedups import check_speed_ups
from attnbench.gate.measure.rounds import run_once
from attnbench.gate.repro import with_repeating_command
from attnbench.gate.verdict import RoundFacts, SideFacts, Verdict
from attnbench.grouping import grouped
from attnbench.store.record import case_of, key_of
from attnbench.units import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from attnbench.gate.judge.inference import Matrix
    from attnbench.gate.measure.rounds import GateObserver
    from attnbench.gate.verdict import GateResult
    from attnbench.store.reader import RunFile
    from attnbench.store.record import CellKey


def require_comparable(baseline: RunFile, *, machine_key: str, threads: int) -> None:
    """Raise unless the baseline's times can be compared with times measured here.

    Raises:
        NotComparableError: if they cannot; the message gives the reason.
    """
    header = baseline.header
    if reason := not_of_one_machine(baseline):
        raise NotComparableError(reason)
    if header.machine_key != machine_key:
        raise NotComparableError(
            f"{baseline.path} is not comparable: it was measured on another machine ({header.machine_key}, "
            f"{header.environment.get('cpu_model') or 'unknown CPU'}; this one is {machine_key})"
        )
    if header.threads != threads:
        raise NotComparableError(
            f"{baseline.path} is not comparable: it was measured with {header.threads} threads, not with {threads}"
        )
    if header.replicates < LEAST_ROUNDS:
        raise NotComparableError(
            f"{baseline.path} is not comparable: it has {count(header.replicates, 'process', 'processes')} for each "
            f"cell, and from fewer than {LEAST_ROUNDS} nobody knows how processes differ; attnbench run --replicates 6"
        )


def stored_rules(rules: Rules) -> Rules:
    """Return the rules for a stored baseline: the tolerance of time is doubled."""
    return dataclasses.replace(rules, delta=2 * rules.delta)


def gate_stored(
    baseline: RunFile, plan: GatePlan, folder: Path, observer: GateObserver, command: Sequence[str]
) -> GateResult:
    """Measure head, suspects twice, and judge it against the stored run.

    Raises:
        GateError: if head cannot be measured.
    """
    began = time.monotonic()
    first_run = _measure(plan, folder / "runs" / "screen-1-head.jsonl", plan.rules.screen_rounds, (), observer, 0)
    first = observe_stored(baseline, first_run)
    cells = [cell for cell in first.values() if cell.both_ok]
    effects, moved = _effects(cells)
    screened = screen_effects(effects, None, plan.rules)
    fresh: dict[CellKey, Observed] = {}
    fresh_effects: list[Effect | None] = []
    runs = [first_run]
    grown = grown_cells(first, plan.rules)
    if screened.needs_confirming or grown:
        rng = np.random.default_rng(plan.seed)
        sentinels = choose_sentinels(screened, plan.rules, rng)
        of_growth = [row for row, cell in enumerate(cells) if cell.key in grown]
        rows = sorted({*screened.suspects, *sentinels, *of_growth})
        names = tuple(cells[row].name for row in rows)
        path = folder / "runs" / "confirm-1-head.jsonl"
        runs.append(_measure(plan, path, plan.rules.confirm_rounds, names, observer, 1))
        again = observe_stored(baseline, runs[-1])
        fresh = {cells[row].key: again[cells[row].key] for row in rows}
        measured, _ = _effects([fresh[cells[row].key] for row in rows])
        by_row = dict(zip(rows, measured, strict=True))
        fresh_effects = [by_row.get(row) for row in range(len(cells))]
    decided, _ = decide(screened, plan.rules, fresh=fresh_effects)
    of_cell = {cell.key: one for cell, one in zip(cells, decided, strict=True) if one is not None}
    verdicts = [
        verdict
        for key, cell in first.items()
        for verdict in verdicts_of(cell, cell, fresh.get(key), of_cell.get(key), plan.rules, paired=False)
    ]
    of_exponents, unfitted = growth_verdicts(first, fresh, plan.rules)
    verdicts = check_speed_ups(verdicts, first, plan.sides["head"], plan.request, folder, observer)
    verdicts = [with_repeating_command(one, command, selects=False) for one in (*verdicts, *of_exponents)]
    return result_of(
        plan,
        command,
        mode="baseline",
        machine_key=first_run.header.machine_key,
        base=_base_facts(baseline),
        head=side_facts(plan.sides["head"], [], "head"),
        rounds=[
            RoundFacts(
                stage=stage, number=1, first="head", base=relpath(baseline.path, folder), head=relpath(run.path, folder)
            )
            for stage, run in zip(("screen", "confirm"), runs, strict=False)
        ],
        common=_common(moved, plan.rules),
        verdicts=verdicts,
        unsupported=sum(is_refused(cell) for cell in first.values()),
        notes=[
            f"Compared with a run of {baseline.header.created_at[:10]}, not in pairs: twice as much is tolerated.",
            *unfitted,
        ],
        wall_s=round(time.monotonic() - began, 1),
    )


def observe_stored(baseline: RunFile, head: RunFile) -> dict[CellKey, Observed]:
    """Return all cells of either run, by key; each replicate counts as one process."""
    sides = [grouped(run.records, key_of) for run in (baseline, head)]
    observed = {}
    for key in dict.fromkeys([*sides[1], *sides[0]]):
        base, other = (SideOfCell(records=tuple(side.get(key, ()))) for side in sides)
        record = other.decisive or base.decisive
        assert record is not None
        observed[key] = Observed(key=key, case=case_of(record), base=base, head=other)
    return observed


def _measure(
    plan: GatePlan, path: Path, processes: int, cells: Sequence[str], observer: GateObserver, order: int
) -> RunFile:  # fmt: skip
    head = plan.sides["head"]
    asked = dataclasses.replace(
        plan.request,
        plugins=(*plan.request.plugins, *head.plugins),
        replicates=processes,
        cells=tuple(cells),
        order_seed=plan.seed + order + 1,
    )
    observer.begins(f"{processes} processes of {len(cells) or 'all'} cells")
    run = run_once(head, asked, path)
    observer.ended()
    return run


def _effects(cells: Sequence[Observed]) -> tuple[list[Effect | None], float | None]:
    """Return effects with the common shift removed, and that shift (``None`` with too few cells to estimate it)."""
    effects = estimate_unpaired(_logs([cell.base for cell in cells]), _logs([cell.head for cell in cells]))
    known = [effect.mean for effect in effects if effect is not None]
    if len(known) < LEAST_CELLS_TO_CENTRE:
        return effects, None
    moved = float(np.median(known))
    return [effect and effect.shifted(-moved) for effect in effects], moved


def _logs(sides: Sequence[SideOfCell]) -> Matrix:
    longest = max((len(side.records) for side in sides), default=0)
    logs = np.full((len(sides), longest), np.nan)
    for row, side in enumerate(sides):
        logs[row, : len(side.medians)] = np.log(side.medians)
    return logs


def _common(moved: float | None, rules: Rules) -> list[Verdict]:
    """Return a note on the shift that all cells share. A single run cannot tell the machine's part from the code's."""
    if moved is None:
        return []
    large = abs(moved) > math.log1p(rules.delta)
    change = f"{100 * math.expm1(moved):+.1f} %"
    sentence = f"all cells together: {change} since the baseline, the machine's state included"
    if large:
        sentence += "; only pairs can tell whether it is the code: attnbench gate --base REV"
    return [
        Verdict(
            case_id=None, implementation=None, device="cpu", label="all cells", metric="time",
            verdict="ambiguous" if large else "same", sentence=sentence, ratio=math.exp(moved), delta=rules.delta,
        )
    ]  # fmt: skip


def _base_facts(baseline: RunFile) -> SideFacts:
    git: Mapping[str, Any] = baseline.header.environment.get("git") or {}
    return SideFacts(
        label=baseline.path,
        kind="baseline",
        commit=git.get("revision"),
        identity=baseline.header.run_id,
        dependencies="stored",
        sources={name: about.get("source_hash") for name, about in sorted(baseline.header.implementations.items())},
    )
