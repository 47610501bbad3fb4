"""Calibration: run the same code on both sides to learn the noise of each cell on this machine.

The rounds are measured. Whole gates are then resampled from them, with the sides of each round exchanged at random, and
judged by the gate's own rules; the share of gates that raise an alarm is this machine's false-alarm rate.
"""

from __future__ import annotations

import datetime
import math
import statistics
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.errors import UsageError
from attnbench.gate.judge.cell_data import log_ratios, observe
from attnbench.gate.judge.inference import centre
from attnbench.gate.judge.statistics import (
    LEAST_CELLS_TO_CENTRE,
    choose_sentinels,
    decide,
    effects_of,
    screen,
    smallest_detectable,
)
from attnbench.untrusted.json_text import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.gate.judge.inference import Matrix
    from attnbench.gate.judge.statistics import Rules
    from attnbench.gate.measure.rounds import Round

SCHEMA_VERSION = 1
GATES = 400
"""Number of gates drawn from the rounds."""
FLOOR_LEVEL = 0.95


class CalibrationError(UsageError):
    """A calibration cannot be made, read or used here."""


class CellNoise(BaseModel):
    """The noise of a cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str = Field(description="case_id implementation device")
    label: str
    time_ns: float = Field(description="Median of all processes.")
    noise_sd: float = Field(description="Of the log ratio of one pair of processes, moderated.")
    floor: float = Field(description="95 % of means of a gate's second stage are below this change: noise, not code.")
    detectable: float = Field(description="Smallest slow-down that nineteen gates of twenty would find.")
    false_alarms: float = Field(description="Share of the drawn gates that call the unchanged cell slower or faster.")


class Calibration(BaseModel):
    """A machine's noise on a scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = "calibration"
    schema_version: int = SCHEMA_VERSION
    created_at: str
    machine_key: str
    scenario: str
    threads: int
    rounds: int
    delta: float
    gates_drawn: int
    gates_with_alarm: float = Field(description="Share of the drawn gates with an alarm anywhere, shifts included.")
    common_sd: float | None = Field(description="Of what a round's cells have in common; null with few cells.")
    cells: list[CellNoise]

    @property
    def floors(self) -> dict[str, float]:
        """The change below which the gate does not tell a cell from noise, by cell."""
        return {one.cell: one.floor for one in self.cells}


def calibrate(rounds: Sequence[Round], rules: Rules, seed: int) -> Calibration:
    """Compute a calibration from rounds with the same code on both sides.

    Raises:
        CalibrationError: if no cell was timed in every round.
    """
    cells = [cell for cell in observe(rounds).values() if cell.both_ok]
    logs = log_ratios(cells)
    timed = [row for row in range(len(cells)) if np.isfinite(logs[row]).all()]
    cells, logs = [cells[row] for row in timed], logs[timed]
    if not cells:
        raise CalibrationError("no cell was timed in every round: there is nothing to learn from")
    effects, shift = effects_of(logs)
    rng = np.random.default_rng(seed)
    alarms, gates = draw_gates(logs, rules, rng)
    floors = noise_floors(logs, rules, rng)
    header = rounds[0].head.header
    return Calibration(
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine_key=header.machine_key,
        scenario=header.scenario_name,
        threads=header.threads,
        rounds=len(rounds),
        delta=rules.delta,
        gates_drawn=GATES,
        gates_with_alarm=gates,
        common_sd=shift.sd if shift else None,
        cells=[
            CellNoise(
                cell=cell.name,
                label=cell.label,
                time_ns=statistics.median([*cell.base.medians, *cell.head.medians]),
                noise_sd=effect.sd,
                floor=floor,
                detectable=smallest_detectable(effect, max(rules.delta, floor), rules),
                false_alarms=alarm,
            )
            for cell, effect, floor, alarm in zip(cells, effects, floors, alarms, strict=True)
            if effect is not None
        ],
    )


def draw_gates(logs: Matrix, rules: Rules, rng: np.random.Generator) -> tuple[list[float], float]:
    """Return the share of drawn gates with an alarm, for each cell and for any cell.

    A drawn round is a measured one whose sides are exchanged at random, for all cells together, so that the common
    shift is kept.
    """
    by_cell = np.zeros(len(logs))
    any_alarm = 0

    def drawn(count: int) -> Matrix:
        chosen = rng.integers(logs.shape[1], size=count)
        return np.asarray(logs[:, chosen] * rng.choice([-1.0, 1.0], size=count))

    for _ in range(GATES):
        screened = screen(drawn(rules.screen_rounds), rules)
        if not screened.needs_confirming:
            continue
        sentinels = choose_sentinels(screened, rules, rng)
        fresh = drawn(rules.confirm_rounds)
        again = {*sentinels, *screened.suspects}
        fresh[[row for row in range(len(logs)) if row not in again]] = np.nan
        effects, shift = effects_of(fresh, sentinels)
        decided, common = decide(screened, rules, fresh=effects, fresh_shift=shift)
        changed = np.array([one is not None and one.decision in ("slower", "faster") for one in decided])
        by_cell += changed
        any_alarm += bool(changed.any()) or (common is not None and common.decision in ("slower", "faster"))
    return [float(count) / GATES for count in by_cell], any_alarm / GATES


def noise_floors(logs: Matrix, rules: Rules, rng: np.random.Generator) -> list[float]:
    """Return for each cell the change that 95 % of the means of drawn second stages stay below."""
    centred = centre(logs)[0] if len(logs) >= LEAST_CELLS_TO_CENTRE else logs
    chosen = rng.integers(logs.shape[1], size=(GATES, rules.confirm_rounds))
    signs = rng.choice([-1.0, 1.0], size=(GATES, rules.confirm_rounds))
    means = np.abs((centred[:, chosen] * signs).mean(axis=2))
    return [math.expm1(float(floor)) for floor in np.quantile(means, FLOOR_LEVEL, axis=1)]


def read_calibration(path: Path, *, machine_key: str, threads: int) -> Calibration:
    """Read a calibration of this machine.

    Raises:
        CalibrationError: if it cannot be read, or was made on another machine or with other threads.
    """
    try:
        found = Calibration.model_validate(parse_json(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, ValidationError) as error:
        raise CalibrationError(f"{path} is no calibration: {str(error).splitlines()[0]}") from error
    if found.machine_key != machine_key:
        raise CalibrationError(f"{path} is of another machine ({found.machine_key}, this one is {machine_key})")
    if found.threads != threads:
        raise CalibrationError(f"{path} was made with {found.threads} threads, and this gate uses {threads}")
    return found
