"""The data of each cell over all rounds: statuses, log ratios and memory, read from run files."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import TYPE_CHECKING

import numpy as np

from attnbench.store.record import DISTURBED, FAILED, case_of, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.cases.case import Case
    from attnbench.gate.judge.inference import Matrix
    from attnbench.gate.measure.rounds import Round, SideName
    from attnbench.store.record import CellKey, Fields

MISSING = "missing"
"""Status of a side that has no record of a cell: it lacks the case or the implementation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideOfCell:
    """A cell on one side, over its rounds."""

    records: tuple[Fields | None, ...]
    """One per round; ``None`` if the round's run has none."""

    @property
    def decisive(self) -> Fields | None:
        """The record that decides: the first that is not ok; disturbed ones are ignored if any process was ok."""
        present = [record for record in self.records if record is not None]
        good = [record for record in present if record["status"] == "ok"]
        bad = [record for record in present if record["status"] != "ok"]
        counted = [record for record in bad if not good or record["status"] not in DISTURBED]
        return next(iter([*counted, *good, *bad]), None)

    @property
    def status(self) -> str:
        """Status of the decisive record; ``missing`` without records."""
        return MISSING if self.decisive is None else str(self.decisive["status"])

    @property
    def why(self) -> str:
        """The reason for the status, and in how many processes it occurred."""
        record = self.decisive
        if record is None:
            return "there is no record of it"
        present = [other["status"] for other in self.records if other is not None]
        count = present.count(record["status"])
        some = f" (in {count} of {len(present)} processes)" if count < len(present) else ""
        return f"{record['reason']}{some}"

    @property
    def medians(self) -> list[float]:
        """Median time of each process in nanoseconds, NaN if it was not timed."""
        return [
            math.nan if record is None or record["time_median_ns"] is None else float(record["time_median_ns"])
            for record in self.records
        ]

    @property
    def undisturbed(self) -> list[float]:
        """Mean of the faster half of each process's samples in nanoseconds, NaN if it was not timed.

        Interference only adds time, and seldom to every sample, so the slower half says more about it than about the
        code.
        """
        return [
            math.nan if record is None or record["time_median_ns"] is None else _faster_half(record["time_samples_ns"])
            for record in self.records
        ]

    @property
    def time_ns(self) -> float | None:
        """Median of the processes' medians in nanoseconds."""
        known = [value for value in self.medians if not math.isnan(value)]
        return statistics.median(known) if known else None

    @property
    def peaks(self) -> list[int]:
        """Peak memory in bytes of each process in which it was measured."""
        return [r["memory_peak_bytes"] for r in self.records if r is not None and r["memory_peak_bytes"] is not None]

    @property
    def resolution_bytes(self) -> int:
        """Reading of an empty call in bytes, median over processes; 0 if there is none."""
        read = [r["memory_resolution_bytes"] for r in self.records if r and r["memory_resolution_bytes"] is not None]
        return round(statistics.median(read)) if read else 0

    @property
    def has_failed(self) -> bool:
        """Whether it crashed, timed out, ran out of memory or raised."""
        return self.status in FAILED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """A cell on both sides."""

    key: CellKey
    case: Case
    base: SideOfCell
    head: SideOfCell

    @property
    def name(self) -> str:
        """The cell's name in a request: ``case_id implementation device``."""
        return " ".join(self.key)

    @property
    def label(self) -> str:
        """Implementation and case for display, with the device unless it is the CPU."""
        where = "" if self.key[2] == "cpu" else f" on {self.key[2]}"
        return f"{self.key[1]}, {self.case.label()}{where}"

    @property
    def both_ok(self) -> bool:
        """Whether both sides are ok, so that their times can be compared."""
        return self.base.status == self.head.status == "ok"

    @property
    def repro(self) -> str:
        """The command that reproduces the cell, head's if it has a record."""
        record = self.head.decisive or self.base.decisive
        assert record is not None
        return str(record["repro"])

    def of(self, side: SideName) -> SideOfCell:
        """Return one side of the cell."""
        return self.base if side == "base" else self.head


def observe(rounds: Sequence[Round]) -> dict[CellKey, Observed]:
    """Return the cells of both sides by key, in the order of head's first run, then of base's."""
    found: dict[SideName, list[dict[CellKey, Fields]]] = {
        side: [{key_of(record): record for record in one.of(side).records} for one in rounds]
        for side in ("base", "head")
    }
    keys = dict.fromkeys(key for side in ("head", "base") for run in found[side] for key in run)
    observed = {}
    for key in keys:
        base = SideOfCell(records=tuple(run.get(key) for run in found["base"]))
        head = SideOfCell(records=tuple(run.get(key) for run in found["head"]))
        record = head.decisive or base.decisive
        assert record is not None
        observed[key] = Observed(key=key, case=case_of(record), base=base, head=head)
    return observed


def log_ratios(cells: Sequence[Observed]) -> Matrix:
    """Return ln(head / base) of undisturbed times, shape (cells, rounds); NaN if a side was not timed."""
    if not cells:
        return np.empty((0, 0))
    base = np.array([cell.base.undisturbed for cell in cells])
    head = np.array([cell.head.undisturbed for cell in cells])
    return np.asarray(np.log(head) - np.log(base))


def _faster_half(samples: Sequence[float]) -> float:
    ordered = sorted(samples)
    return statistics.fmean(ordered[: (len(ordered) + 1) // 2])
