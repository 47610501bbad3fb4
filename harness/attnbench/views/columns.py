"""Columns and words that several views share."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.store.record import METRICS
from attnbench.units import count, duration_interval, length, listing, times
from attnbench.views.document import Column, Row, Table, column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.views.cells import CellResult

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def of_metric(name: str, *, spare: int = 0) -> Column:
    """Return a metric's column with its declared title and unit.

    Raises:
        KeyError: no metric has the name.
    """
    return column(METRICS[name].title, name, unit=METRICS[name].unit, spare=spare, metric=name)


def filled(columns: Iterable[Column], rows: Sequence[Row]) -> list[Column]:
    """Drop the columns of metrics that no row has."""
    return [one for one in columns if not one.metric or any(row[one.metric] is not None for row in rows)]


def length_column(axis: str) -> Column:
    """Return a column of the rows' ``length``, titled ``axis``."""
    return Column(title=axis, text=lambda row: length(row["length"]), is_number=True)


OWN = "the model's own"
"""Used in place of an implementation's name for the attention that a model comes with."""
IMPLEMENTATION = column("implementation", is_implementation=True)
STATUS = column("status", is_status=True, spare=1)
TIME = of_metric("time_median_ns")
INTERVAL = Column(
    title="95 % interval",
    text=lambda row: duration_interval(row["time_ci_low_ns"], row["time_ci_high_ns"]) + ("*" if _is_range(row) else ""),
    is_number=True,
    fields=("time_ci_low_ns", "time_ci_high_ns"),
    unit="ns",
    footnote="* The range of the samples, which are too few for an interval of 95 %.",
    spare=5,
)
TOKENS = of_metric("tokens_per_s", spare=2)
MEMORY = of_metric("memory_peak_bytes", spare=3)
HELD = of_metric("memory_held_bytes", spare=6)
ERROR = column("error / budget", "error_ratio", unit="ratio", spare=4)
QUANTISATION = of_metric("quantisation_error_rel", spare=5)


def _is_range(row: Row) -> bool:
    """Whether a row's interval is the range of few samples instead of a 95 % interval."""
    return "range" in (row["time_ci_method"] or "")


def speedup_column(baseline: str) -> Column:
    """Return a column of speed-ups whose title names the baseline."""
    return Column(title=f"speed-up over {baseline}", text=lambda row: times(row["speedup"]), is_number=True, spare=2)


def reasons(cells: Iterable[CellResult]) -> Table:
    """Return a table of the reasons why cells are not ok.

    Equal reasons share a row across implementations, as do reasons that differ only in numbers.
    """
    alike = grouped(
        (cell for cell in cells if cell.status != "ok"),
        lambda cell: (cell.status, cell.stage or "", _NUMBER.sub("#", cell.reason or "")),
    )
    rows = [
        {
            "status": status,
            "stage": stage,
            "cells": len(found),
            "implementations": sorted({cell.implementation for cell in found}),
            "reason": found[0].reason,
            "alike": len({cell.reason for cell in found}) - 1,
        }
        for (status, stage, _), found in sorted(alike.items(), key=lambda item: (item[0][0], -len(item[1])))
    ]
    return Table(
        columns=[
            dataclasses.replace(STATUS, spare=0),
            column("cells", unit="count"),
            Column(title="implementations", text=lambda row: listing(row["implementations"])),
            column("stage"),
            Column(title="reason", text=_reason),
        ],
        rows=rows,
    )


def _reason(row: Row) -> str:
    others = f" (and {count(row['alike'], 'reason')} with other numbers)" if row["alike"] else ""
    return f"{row['reason']}{others}"
