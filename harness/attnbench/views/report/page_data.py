"""The compact data of the page's script: times, their ratios, and memory of all cells."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

from attnbench.views.estimates import difference, ratio
from attnbench.views.report.blocks import is_large

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.report.blocks import ReportedRun

DIGITS = 6
"""Significant digits in a large report, more than a reader sees. A small report has all digits, so that values which
its script computes agree with the written ones to the last digit.
"""


def points_of(sources: Sequence[ReportedRun]) -> Row:
    """Return all groups of cases in the report's order, JSON-ready.

    ``names`` are the implementations; ``facets`` are the filters with all values of each. A group has its ``label``,
    the ``axis`` of its ``lengths``, the index of its value for each of the ``facets``, and its ``cells``. A cell is the
    index of the implementation, the index of the length, then

    - the time in ns, or the status of a cell that is not ok, or 0,
    - both ends of the time's interval, or 0 and 0,
    - the peak memory in bytes, or 0;

    zeros at the end are left out. Its ``pairs`` have an entry for each length, which compares each two of its timed
    cells in their order: a text with one letter a pair, which says how the latter compares with the former (f faster, s
    slower, w within noise), then the value of each ratio of the former's time to the latter's and both ends of its
    interval, or nulls.
    """
    names = sorted({cell.implementation for source in sources for cell in source.cells})
    index_of = {name: index for index, name in enumerate(names)}
    facets = [source.facets(group) for source in sources for group in source.grouping.groups]
    values = {name: list(dict.fromkeys(one[name] for one in facets)) for name in (facets[0] if facets else ())}
    places = {name: {value: index for index, value in enumerate(found)} for name, found in values.items()}
    digits = DIGITS if is_large(sources) else sys.float_info.dig + 2
    groups = []
    each = ((source, group) for source in sources for group in source.grouping.groups)
    for (source, group), own in zip(each, facets, strict=True):
        lengths = group.lengths
        at = {tokens: index for index, tokens in enumerate(lengths)}
        groups.append(
            {
                "label": source.title(group),
                "axis": group.axis,
                "lengths": lengths,
                "facets": [places[name][value] for name, value in own.items()],
                "cells": [
                    [index_of[cell.implementation], at[cell.case.seqlen_kv], *_numbers(cell, digits)]
                    for cell in group.cells
                ],
                "pairs": [_pairs(group.at(tokens), digits) for tokens in lengths],
            }
        )
    return {"names": names, "facets": values, "groups": groups}


def _pairs(cells: Sequence[CellResult], digits: int) -> list[Any]:
    timings = [cell.timing for cell in cells if cell.timing is not None]
    verdicts, gains = "", []
    for one, other in itertools.combinations(timings, 2):
        gain = ratio(one, other)
        verdicts += difference(one, other, gain)[0]
        gains += [_short(end, digits) for end in (gain.value, gain.low, gain.high)]
    return [verdicts, *gains]


def _numbers(cell: CellResult, digits: int) -> list[Any]:
    metrics = cell.metrics
    time: Any = _short(metrics.time_median_ns, digits) or (0 if cell.status == "ok" else cell.status)
    ends = [_short(end, digits) or 0 for end in (metrics.time_ci_low_ns, metrics.time_ci_high_ns)]
    found = [time, *ends, metrics.memory_peak_bytes or 0]
    return list(itertools.dropwhile(lambda value: value == 0, reversed(found)))[::-1]


def _short(value: float | None, digits: int) -> float | int | None:
    if value is None:
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
