"""Which sets of values were judged: by scenario and implementation, for the tables of a soak."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tests.soak.units import cases_of_one

if TYPE_CHECKING:
    from tests.soak.units import Report

Sets = Mapping[str, Mapping[str, int]]
"""Sets of values that were judged, by case and implementation."""


def coverage(scenarios: Iterable[str], tokens: int, reports: Iterable[Report]) -> Iterator[str]:
    """For each scenario a line of its cases, then one for each implementation that supports any of them."""
    sets = sets_of(reports)
    for scenario in scenarios:
        cases = [case.case_id for case in cases_of_one(scenario, tokens)]
        yield f"{scenario}, {len(cases)} cases:"
        for implementation in sorted({name for case in cases for name in sets.get(case, {})}):
            yield f"    {implementation:<26} {summed_up([sets.get(case, {}).get(implementation, 0) for case in cases])}"


def sets_of(reports: Iterable[Report]) -> Sets:
    """Added up over seeds."""
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for report in reports:
        found[report.unit.partition("/")[0]].update(report.pairs)
    return found


def summed_up(counts: Sequence[int]) -> str:
    """``12 cases with 200 sets of values, 3 with 10 to 40``; what an implementation does not support has no set."""
    judged = sorted(count for count in counts if count)
    most = judged[-1]
    fewer = [count for count in judged if count < most]
    said = f"{len(judged) - len(fewer)} cases with {most} sets of values"
    if not fewer:
        return said
    return f"{said}, {len(fewer)} with {fewer[0]}" + (f" to {fewer[-1]}" if fewer[-1] > fewer[0] else "")
