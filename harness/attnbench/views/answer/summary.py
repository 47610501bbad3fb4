"""A table with a row for each implementation of a run, fastest first."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.units import TIMES, count, times
from attnbench.views import columns
from attnbench.views.answer.winners import winners_of
from attnbench.views.compare import geometric_mean
from attnbench.views.document import Column, Table, column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.compare import Pair
    from attnbench.views.document import Row
    from attnbench.views.groups import Group


def summary_table(groups: Sequence[Group], pairs: Sequence[Pair], baseline: str | None) -> Table:
    """Return a row for each implementation: cases that it wins, speed-up and memory over the baseline, and error."""
    return Table(
        columns=[
            columns.IMPLEMENTATION,
            Column(title="fastest in", text=lambda row: str(row["fastest"] or ""), is_number=True, spare=1),
            columns.speedup_column(baseline or ""),
            Column(title="over", text=lambda row: f"{row['timed']:,} of {count(row['cells'], 'case')}", spare=2),
            Column(title=f"memory {TIMES}", text=lambda row: times(row["memory_ratio"]), is_number=True, spare=3),
            columns.ERROR,
            column("not ok", "not_ok", spare=1),
        ],
        rows=summary_rows(groups, pairs, baseline),
    )


def summary_rows(groups: Sequence[Group], pairs: Sequence[Pair], baseline: str | None) -> list[Row]:
    """Return a row for each implementation that was timed or judged, the greatest speed-up over the baseline first."""
    of_each = grouped((cell for group in groups for cell in group.cells), lambda cell: cell.implementation)
    winners = [winner for group in groups for winner in winners_of(group)]
    won = collections.Counter(winner.names[0] for winner in winners if winner.is_clear)
    over = grouped(pairs, lambda pair: pair.subject.implementation)
    rows = [_row(name, cells, won[name], over.get(name, ()), baseline) for name, cells in of_each.items()]
    shown = [row for row in rows if row["timed"] or row["error_ratio"] is not None]
    shown.sort(key=lambda row: (row["speedup"] is None, -(row["speedup"] or 0), row["implementation"]))
    return shown


def _row(name: str, cells: Sequence[CellResult], won: int, pairs: Sequence[Pair], baseline: str | None) -> Row:
    is_baseline = name == baseline
    ratios: Mapping[str, list[float]] = {
        "speedup": [pair.speedup.value for pair in pairs],
        "memory_ratio": [ratio for pair in pairs if (ratio := pair.memory_ratio)],
    }
    means = {field: 1.0 if is_baseline else geometric_mean(values) for field, values in ratios.items()}
    statuses = collections.Counter(cell.status for cell in cells if cell.status != "ok")
    return {
        "implementation": name,
        "fastest": won,
        **means,
        "timed": sum(cell.timing is not None for cell in cells),
        "cells": len(cells),
        "error_ratio": max((cell.error_ratio for cell in cells if cell.error_ratio is not None), default=None),
        "not_ok": ", ".join(f"{n} {status}" for status, n in statuses.most_common()),
    }
