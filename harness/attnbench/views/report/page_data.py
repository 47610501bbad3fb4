"""What the page's script draws and computes from: the times and the memory of all cells, in few characters."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

from attnbench.views.estimates import EXACT, FAINT, FEW, TAIL, UNSEEN
from attnbench.views.report.blocks import is_large

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.report.blocks import ReportedRun

DIGITS = 6
"""Significant ones in a large report: more than a reader sees. A small one has all, and what its script computes from
them reads like what was written, to the last digit."""


def points_of(sources: Sequence[ReportedRun]) -> dict[str, Any]:
    """Groups of cases in the order of the report, JSON-ready.

    ``names`` are the implementations, ``facets`` what can be filtered by with all values of each. A group has its
    ``label``, the ``axis`` that its ``lengths`` are on, the index of its value for each of the ``facets``, and its
    ``cells``: index of the implementation, index of the length, then what there is of

    - ``[median of each process, ns]``, or the status of a cell that is not ok, or 0,
    - where the interval does not follow from the processes (fewer than three) how far it reaches below and above the
      time, in ten-thousandths of it, or 0,
    - the peak of memory in bytes.
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
            }
        )
    statistics = {"few": FEW, "exact": EXACT, "unseen": UNSEEN, "tail": TAIL, "faint": FAINT}
    return {"names": names, "facets": values, "groups": groups, "statistics": statistics}


def _numbers(cell: CellResult, digits: int) -> list[Any]:
    medians: Any = 0 if cell.status == "ok" else cell.status
    ends: Any = 0
    if cell.timing is not None:
        medians = [_short(median, digits) for median in cell.timing.medians]
        estimate = cell.timing.estimate
        if cell.timing.processes < FEW and estimate.low is not None and estimate.high is not None:
            ends = [round(1e4 * abs(end / estimate.value - 1)) for end in (estimate.low, estimate.high)]
    found = [medians, ends, cell.metrics.memory_peak_bytes or 0]
    return list(itertools.dropwhile(lambda value: value == 0, reversed(found)))[::-1]


def _short(value: float, digits: int) -> float | int:
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
