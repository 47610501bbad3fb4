"""The stages of a gate: screen all cells, confirm suspects, judge."""

from __future__ import annotations

import dataclasses
import datetime
import random
import time
from typing import TYPE_CHECKING, Literal

import numpy as np

from attnbench.gate.judge.cell_data import log_ratios, observe
from attnbench.gate.judge.scaling import growth_again, growths_of
from attnbench.gate.judge.statistics import Decided, Screened, choose_sentinels, decide, effects_of, screen
from attnbench.gate.judge.verdicts import (
    common_verdict,
    growth_verdict,
    is_refused,
    memory_change,
    memory_verdict,
    outcome,
    outcome_verdict,
    time_verdict,
    untimed_verdict,
)
from attnbench.gate.judge.verify_speedups import check_speed_ups
from attnbench.gate.measure.rounds import MEMORY_ROUNDS, SIDES, run_rounds
from attnbench.gate.repro import shown_on_head, with_repeating_command
from attnbench.gate.verdict import GateResult, RoundFacts, SideFacts, Verdict
from attnbench.grouping import grouped
from attnbench.machine.interference import busy
from attnbench.scaling import FEWEST_SIZES, NARROWEST
from attnbench.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from attnbench.gate.judge.cell_data import Observed
    from attnbench.gate.judge.statistics import Rules
    from attnbench.gate.measure.rounds import GateObserver, Round, SideName
    from attnbench.gate.measure.side import Side
    from attnbench.runner.planning.request import Request
    from attnbench.store.record import CellKey


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatePlan:
    """The two sides of a gate, and how they are compared."""

    sides: dict[SideName, Side]
    request: Request
    rules: Rules
    seed: int
    floors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Smallest change that this machine can tell from noise, by ``case_id implementation device``."""
    calibration: str | None = None
    """Path of the calibration that the floors come from."""

    def to_dict(self) -> dict[str, object]:
        """Return the plan as JSON-ready data; gates with equal plans can share their runs."""
        return {
            "sides": {name: side.identity for name, side in self.sides.items()},
            "request": self.request.to_dict(),
            "rules": dataclasses.asdict(self.rules),
            "seed": self.seed,
            "floors": dict(self.floors),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """One device's cells that are ok on both sides, and the result of their screening."""

    device: str
    cells: list[Observed]
    screened: Screened
    deltas: dict[int, float]


def fixed_samples(request: Request) -> Request:
    """Fix the number of samples, the same for both sides: stopping once an interval is narrow would bias the ratio."""
    limits = request.scenario.limits
    fixed = limits.model_copy(update={"max_samples": limits.min_samples, "sampling_s": limits.time_s})
    return dataclasses.replace(request, scenario=request.scenario.model_copy(update={"limits": fixed}))


def run_gate(plan: GatePlan, folder: Path, observer: GateObserver, command: Sequence[str]) -> GateResult:
    """Measure both sides into a folder and judge; ``command`` is stored in the result.

    Raises:
        GateError: if a run cannot be made.
    """
    began = time.monotonic()
    runs = folder / "runs"
    screens = run_rounds(
        "screen", plan.rules.screen_rounds, plan.sides, plan.request, runs, observer, seed=plan.seed
    )  # fmt: skip
    first = observe(screens)
    judged = screen_cells(first, plan.rules, plan.floors)
    again = cells_to_confirm(judged, first, plan.rules, plan.seed)
    confirms: list[Round] = []
    if any(again.values()):
        names = [first[key].name for keys in again.values() for key in keys]
        of_time = any(one.screened.needs_confirming for one in judged) or any(
            quantity == "time" and growth.changed(plan.rules.exponent)
            for (_, quantity), (_, growth) in growths_of(first).items()
        )
        rounds = plan.rules.confirm_rounds if of_time else MEMORY_ROUNDS
        confirms = run_rounds(
            "confirm", rounds, plan.sides, plan.request, runs, observer, cells=names, seed=plan.seed + 1
        )  # fmt: skip
    result = judge(plan, folder, screens, confirms, command)
    verdicts = check_speed_ups(result.verdicts, first, plan.sides["head"], plan.request, folder, observer)
    return result.model_copy(update={"verdicts": verdicts, "wall_s": round(time.monotonic() - began, 1)})


def judge(
    plan: GatePlan, folder: Path, screens: Sequence[Round], confirms: Sequence[Round], command: Sequence[str]
) -> GateResult:
    """Return the result of finished rounds. Nothing is measured, so it can be repeated from the stored files."""
    first, fresh = observe(screens), observe(confirms)
    both = observe([*screens, *confirms])
    judged = screen_cells(first, plan.rules, plan.floors)
    again = cells_to_confirm(judged, first, plan.rules, plan.seed)
    decided: dict[CellKey, Decided] = {}
    common: list[Verdict] = []
    for one in judged:
        of_cells, of_shift = decide_cells(one, fresh, again[one.device], plan.rules)
        decided |= of_cells
        if of_shift is not None:
            common.append(common_verdict(of_shift, one.device))
    verdicts: list[Verdict] = []
    for key, cell in both.items():
        verdicts += verdicts_of(cell, first[key], fresh.get(key), decided.get(key), plan.rules)
    of_growth, unfitted = growth_verdicts(first, fresh, plan.rules)
    verdicts = [
        shown_on_head(with_repeating_command(one, command, selects=True), plan.sides["base"], plan.sides["head"])
        for one in (*verdicts, *of_growth)
    ]
    return result_of(
        plan,
        command,
        machine_key=screens[0].head.header.machine_key,
        base=side_facts(plan.sides["base"], screens, "base"),
        head=side_facts(plan.sides["head"], screens, "head"),
        rounds=[_round_facts(one, folder) for one in (*screens, *confirms)],
        common=common,
        verdicts=verdicts,
        unsupported=sum(is_refused(cell) for cell in both.values()),
        notes=[*_other_work(screens[0]), *notes(verdicts), *unfitted],
    )


def identical_result(plan: GatePlan, command: Sequence[str]) -> GateResult:
    """Return the result for two sides with the same code: nothing needs to be measured."""
    base, head = (side_facts(plan.sides[side], [], side) for side in SIDES)
    return result_of(plan, command, base=base, head=head, identical=True)


def result_of(
    plan: GatePlan,
    command: Sequence[str],
    *,
    base: SideFacts,
    head: SideFacts,
    mode: Literal["pairs", "baseline"] = "pairs",
    machine_key: str | None = None,
    rounds: Sequence[RoundFacts] = (),
    common: Sequence[Verdict] = (),
    verdicts: Sequence[Verdict] = (),
    unsupported: int = 0,
    identical: bool = False,
    notes: Sequence[str] = (),
    wall_s: float = 0.0,
) -> GateResult:
    """Build a result; everything that is not given is empty."""
    return GateResult(
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        attnbench_version=VERSION,
        command=list(command),
        scenario=plan.request.scenario.name,
        rules={name: float(value) for name, value in dataclasses.asdict(plan.rules).items()},
        calibration=plan.calibration,
        base=base,
        head=head,
        mode=mode,
        machine_key=machine_key,
        rounds=list(rounds),
        common=list(common),
        verdicts=list(verdicts),
        unsupported=unsupported,
        identical=identical,
        notes=list(notes),
        wall_s=wall_s,
    )


def screen_cells(first: Mapping[CellKey, Observed], rules: Rules, floors: Mapping[str, float]) -> list[Judged]:
    """Screen each device's cells that are ok on both sides; no others have comparable times."""
    timed = (cell for cell in first.values() if cell.both_ok)
    judged = []
    for device, cells in grouped(timed, lambda cell: cell.key[2]).items():
        deltas = {
            row: max(rules.delta, floors[cell.name])
            for row, cell in enumerate(cells)
            if floors.get(cell.name) is not None
        }
        screened = screen(log_ratios(cells), rules, deltas)
        judged.append(Judged(device=device, cells=cells, screened=screened, deltas=deltas))
    return judged


def cells_to_confirm(
    judged: Sequence[Judged], first: Mapping[CellKey, Observed], rules: Rules, seed: int
) -> dict[str, list[CellKey]]:
    """Return by device the cells of the second stage: suspects, sentinels, and cells whose memory or growth changed."""
    memory = {
        key for key, cell in first.items()
        if outcome(cell) is None
        and (change := memory_change(cell, rules.memory)) is not None and change.verdict != "same"
    }  # fmt: skip
    grown = grown_cells(first, rules)
    chosen: dict[str, list[CellKey]] = {}
    for one in judged:
        rng = np.random.default_rng(random.Random(f"{seed}/{one.device}").randrange(2**32))
        rows = set(one.screened.suspects)
        if one.screened.needs_confirming:
            rows |= set(choose_sentinels(one.screened, rules, rng))
        keys = {one.cells[row].key for row in rows} | memory | grown
        chosen[one.device] = [cell.key for cell in one.cells if cell.key in keys]
    return chosen


def grown_cells(first: Mapping[CellKey, Observed], rules: Rules) -> set[CellKey]:
    """Return the cells of all series whose growth seems to have changed."""
    suspects = [series for series, growth in growths_of(first).values() if growth.changed(rules.exponent)]
    return {cell.key for series in suspects for cell in series.cells}


def decide_cells(
    one: Judged, fresh: Mapping[CellKey, Observed], again: Sequence[CellKey], rules: Rules
) -> tuple[dict[CellKey, Decided], Decided | None]:
    """Decide the second stage of one device."""
    if not one.screened.needs_confirming:
        decided, shift = decide(one.screened, rules, deltas=one.deltas)
    else:
        rounds = max((len(cell.head.records) for cell in fresh.values()), default=0)
        matrix = np.full((len(one.cells), rounds), np.nan)
        for row, cell in enumerate(one.cells):
            if cell.key in fresh and cell.key in again:
                matrix[row] = log_ratios([fresh[cell.key]])[0]
        sentinels = [
            row for row, cell in enumerate(one.cells) if cell.key in again and row not in one.screened.suspects
        ]  # fmt: skip
        fresh_effects, fresh_shift = effects_of(matrix, sentinels)
        decided, shift = decide(
            one.screened, rules, fresh=fresh_effects, fresh_shift=fresh_shift, deltas=one.deltas
        )  # fmt: skip
    return {cell.key: d for cell, d in zip(one.cells, decided, strict=True) if d is not None}, shift


def verdicts_of(
    cell: Observed,
    first: Observed,
    fresh: Observed | None,
    decided: Decided | None,
    rules: Rules,
    *,
    paired: bool = True,
) -> list[Verdict]:
    """Return all verdicts on a cell: one on its outcome if a side is not ok, otherwise on time and memory."""
    name = outcome(cell)
    if name is not None:
        return [outcome_verdict(cell, name)]
    if is_refused(cell):
        return []
    if decided is None:
        verdicts = [untimed_verdict(first, paired=paired)]
    else:
        measured = fresh if decided.confirmed_on_fresh_pairs and fresh is not None else first
        verdicts = [time_verdict(measured, decided, paired=paired)]
    # Fresh readings decide when there are any: a real change of memory shows again.
    weighed = fresh if fresh is not None and memory_change(fresh, rules.memory) is not None else first
    change = memory_change(weighed, rules.memory)
    return [*verdicts, memory_verdict(weighed, change)] if change is not None else verdicts


def growth_verdicts(
    first: Mapping[CellKey, Observed], fresh: Mapping[CellKey, Observed], rules: Rules
) -> tuple[list[Verdict], list[str]]:
    """Return verdicts on how each series' time and memory grow, and notes on series without a fitted law."""
    verdicts: list[Verdict] = []
    refused: dict[str, list[str]] = {}
    for (_, quantity), (series, growth) in growths_of(first).items():
        again = growth_again(series, quantity, fresh)
        verdict = growth_verdict(series, quantity, growth, again, rules.exponent)
        if verdict is not None:
            verdicts.append(verdict)
        else:
            why = growth.refusal or (again and again.refusal) or ""
            refused.setdefault(why, []).append(f"{quantity} of {series.label}")
    notes = [
        f"No exponent of {' and '.join(whose[:2])}{f' and {len(whose) - 2} more' * (len(whose) > 2)}: {reason}."
        for reason, whose in refused.items()
    ]
    if not verdicts and not notes:
        needed = f"{FEWEST_SIZES} sequence lengths over a factor of {NARROWEST:g} which differ in nothing else"
        notes = [f"No exponent of growth is judged: that takes {needed}."]
    return verdicts, notes


def side_facts(side: Side, rounds: Sequence[Round], name: SideName) -> SideFacts:
    """Describe a side for the result, with the source hashes of its implementations."""
    implementations = rounds[0].of(name).header.implementations if rounds else {}
    return SideFacts(
        label=side.label,
        kind=side.kind,
        commit=side.commit,
        identity=side.identity,
        dependencies=side.dependencies,
        sources={key: value.get("source_hash") for key, value in sorted(implementations.items())},
    )


def _round_facts(one: Round, folder: Path) -> RoundFacts:
    base, head = (run.path.removeprefix(f"{folder}/") for run in (one.base, one.head))
    return RoundFacts(stage=one.stage, number=one.number + 1, first=one.first, base=base, head=head)


def _other_work(begun: Round) -> list[str]:
    """Return what else kept the machine busy when the first process began."""
    return [f"{said[:1].upper()}{said[1:]}." for said in busy(begun.of(begun.first).header.environment)]


def notes(verdicts: Sequence[Verdict]) -> list[str]:
    """Return notes that qualify the verdicts."""
    said = []
    blunt = [one for one in verdicts if one.detectable is not None and one.delta and one.detectable > 2 * one.delta]
    if blunt:
        worst = max(one.detectable or 0.0 for one in blunt)
        said.append(
            f"{len(blunt)} of the times are noisy: in the worst of them a slow-down below {100 * worst:.0f} % "
            "can go unseen."
        )
    return said
