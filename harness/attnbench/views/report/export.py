"""Writes every number of a report as CSV and Parquet."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from attnbench.untrusted.spreadsheet import csv_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from attnbench.views.document import Row
    from attnbench.views.report.blocks import Export


def write_export(export: Export, folder: Path) -> None:
    """Write ``STEM.csv`` and ``STEM.parquet``, or nothing if there are no rows.

    ``None`` is empty or null, lists are JSON. In CSV no text is a formula; in Parquet texts are unchanged.
    """
    columns = columns_of(export.rows)
    if not columns:
        return
    with (folder / f"{export.stem}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(csv_cell, row) for row in zip(*columns.values(), strict=True))
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: pa.array(values, type=_type(values)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), folder / f"{export.stem}.parquet", compression="zstd")


def columns_of(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Turn rows into columns, each of one type. Rows are read one by one, as a large run's would take much memory."""
    columns: dict[str, list[Any]] = {}
    for before, row in enumerate(rows):
        if row.keys() != columns.keys():
            columns |= {name: [None] * before for name in row if name not in columns}
        for name, values in columns.items():
            values.append(row.get(name))
    return {name: _uniform(values) for name, values in columns.items()}


def _uniform(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds & {list, tuple, dict}:
        return [None if value is None else json.dumps(value) for value in values]
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return values


def _type(values: Sequence[Any]) -> Any:
    """Return the Arrow type of a column; one without any value is text."""
    import pyarrow as pa

    known = next((value for value in values if value is not None), "")
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(type(known), pa.string())
