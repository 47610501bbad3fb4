"""Counts the judged sets of values by scenario and implementation, for the tables of a soak."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tests.soak.units import cases_of_one

if TYPE_CHECKING:
    from tests.soak.units import Report

Sets = Mapping[str, Mapping[str, int]]
"""Number of judged sets of values, by case and implementation."""


def coverage(scenarios: Iterable[str], tokens: int, reports: Iterable[Report]) -> Iterator[str]:
    """Yield, for each scenario, a line on its cases, then one per implementation that supports any of them."""
    sets = sets_of(reports)
    for scenario in scenarios:
        cases = [case.case_id for case in cases_of_one(scenario, tokens)]
        yield f"{scenario}, {len(cases)} cases:"
        for implementation in sorted({name for case in cases for name in sets.get(case, {})}):
            yield f"    {implementation:<26} {summed_up([sets.get(case, {}).get(implementation, 0) for case in cases])}"


def sets_of(reports: Iterable[Report]) -> Sets:
    """Sum the judged sets of values over seeds."""
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for report in reports:
        found[report.unit.partition("/")[0]].update(report.pairs)
    return found


def summed_up(counts: Sequence[int]) -> str:
    """Return text like ``12 cases with 200 sets of values, 3 with 10 to 40``; unsupported cases have no sets."""
    judged = sorted(count for count in counts if count)
    most = judged[-1]
    fewer = [count for count in judged if count < most]
    said = f"{len(judged) - len(fewer)} cases with {most} sets of values"
    if not fewer:
        return said
    return f"{said}, {len(fewer)} with {fewer[0]}" + (f" to {fewer[-1]}" if fewer[-1] > fewer[0] else "")
