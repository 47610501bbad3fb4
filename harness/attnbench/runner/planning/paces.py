"""Durations of cells in earlier runs, from which those of the next run are estimated."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import statistics
from typing import TYPE_CHECKING, Any

from attnbench.cases.case import CaseError, make_case
from attnbench.runner.planning.plan import expected_s
from attnbench.store.folder import RUN_FOLDER, newest_first
from attnbench.untrusted.json_text import parse_json
from attnbench.untrusted.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request

_MOST_RUNS = 12
_MOST_BYTES = 2**25
_NEVER_RAN = ("unsupported", "unavailable", "skipped")
_CASE = tuple(field.name for field in dataclasses.fields(make_case()))
START_S = 0.8
"""Seconds until a worker is ready if as many start at once as there are processors."""


@dataclasses.dataclass(frozen=True)
class Paces:
    """Seconds of cells that ran before, and the factor by which each implementation was slower than expected."""

    cells: Mapping[tuple[str, str, str], float] = dataclasses.field(default_factory=dict)
    """By case, implementation and device."""
    factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    overall: float = 1.0
    """The factor of implementations that have not run yet."""

    def estimate_s(self, cell: Cell, sampling_s: float) -> float:
        """Return a cell's earlier seconds, or the expected ones times its implementation's factor."""
        if cell.preset_outcome is not None:
            return 0.0
        known = self.cells.get((cell.case.case_id, cell.found.name, cell.device))
        if known is not None:
            return known
        return expected_s(cell.case, cell.device, sampling_s) * self.factors.get(cell.found.name, self.overall)


def paces_of(request: Request, folder: Path = RUN_FOLDER) -> Paces:
    """Read the paces from the latest runs in a folder that had the same threads and sampling time."""
    seconds: dict[tuple[str, str, str], list[float]] = collections.defaultdict(list)
    ratios: dict[str, list[float]] = collections.defaultdict(list)
    for record in _records(request, folder):
        with contextlib.suppress(LookupError, TypeError, ValueError, CaseError):
            case, taken = make_case(**{name: record[name] for name in _CASE if name in record}), float(record["wall_s"])
            name, device = str(record["implementation"]), str(record["device"])
            ratio = taken / expected_s(case, device, request.sampling_s)  # fails where the case's file is gone
            seconds[case.case_id, name, device].append(taken)
            ratios[name].append(ratio)
    every = list(itertools.chain.from_iterable(ratios.values()))
    return Paces(
        cells={key: statistics.median(values) for key, values in seconds.items()},
        factors={name: statistics.median(values) for name, values in ratios.items()},
        overall=statistics.median(every) if every else 1.0,
    )


def whole_s(cells: Iterable[Cell], paces: Paces, sampling_s: float) -> float:
    """Estimate the seconds of a run: its cells, and the start of their workers in each replicate."""
    every = [cell for cell in cells if cell.preset_outcome is None]
    workers = {(cell.found.name, cell.device, cell.replicate) for cell in every}
    return sum(paces.estimate_s(cell, sampling_s) for cell in every) + START_S * len(workers)


def _records(request: Request, folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the records of cells that ran; files that are not runs are skipped."""
    for path in newest_first(folder)[:_MOST_RUNS]:
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
            lines = read_regular(path, _MOST_BYTES).decode("utf-8").splitlines()
            asked: Any = parse_json(lines[0])["request"]  # type: ignore[index]  # or it raises
            sampled_s = asked["scenario"]["limits"]["sampling_s"] if "time" in asked["stages"] else 0.0
            if (asked["threads"], sampled_s) != (request.threads, request.sampling_s):
                continue
            for line in lines[1:]:
                record: Any = parse_json(line)
                if record["kind"] == "record" and record["status"] not in _NEVER_RAN:
                    yield record
