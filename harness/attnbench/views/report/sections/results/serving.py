"""The section on ragged batches: tokens per second of a step, and of each class of its requests alone.

One call cannot be split into times of its requests. So a class has a time only if the run has a case of those requests
alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from attnbench.cases.requests import CLASSES, described, parse_requests, written
from attnbench.views import columns
from attnbench.views.document import Paragraph, Table, column
from attnbench.views.report.blocks import Block, Export, Section, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnbench.cases.case import Case
    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.report.material import Material

_COLUMNS = [
    columns.IMPLEMENTATION,
    column("requests"),
    columns.TIME,
    columns.TOKENS,
    column("of the step", "share", unit="%"),
]


def section(material: Material) -> Section | None:
    """Return a table for each step, or ``None`` without ragged batches."""
    blocks: list[Block] = []
    exported: list[Row] = []
    for source in material.sources:
        tables = [table for step in _steps(source.cells) if (table := _table(step, source.cells)) is not None]
        if tables:
            blocks += [*named(source), *tables]
            exported += [{"run": source.run.path, **row} for table in tables for row in table.rows]
    if not blocks:
        return None
    blocks.append(
        Paragraph(
            text="Tokens are those that a call adds: its queries, in one layer. A class's time within the step cannot "
            "be seen; alone means a call with these requests only. Where the parts add up to more than 100 %, one call "
            "is faster than one for each class."
        )
    )
    return Section(
        anchor="serving", title="Serving steps", blocks=blocks, exports=[Export(stem="serving", rows=exported)]
    )


def _steps(cells: Sequence[CellResult]) -> list[tuple[Case, str]]:
    """Return the timed ragged batches of each device, without those that are a part of another one."""
    found = dict.fromkeys((one.case, one.device) for one in cells if one.case.requests is not None and one.timing)
    parts = {(part, device) for case, device in found for part in _parts(case)}
    return [one for one in found if one not in parts]


def _parts(case: Case) -> Iterator[Case]:
    """Yield the cases that have only some of the step's classes of requests."""
    batch = parse_requests(case.requests or "")
    present = [name for name in CLASSES if any(one.request_class == name for one in batch)]
    for count in range(len(present) - 1, 0, -1):
        for chosen in itertools.combinations(present, count):
            part = parse_requests(written(tuple(one for one in batch if one.request_class in chosen)))
            seqlen_q = sum(one.number * one.queries for one in part)
            seqlen_kv = sum(one.number * one.keys for one in part)
            yield dataclasses.replace(case, requests=written(part), seqlen_q=seqlen_q, seqlen_kv=seqlen_kv)


def _table(step: tuple[Case, str], cells: Sequence[CellResult]) -> Table | None:
    case, device = step
    timed = {(one.case, one.implementation): one for one in cells if one.device == device and one.time_ns is not None}
    rows: list[Row] = []
    for name in sorted({implementation for one, implementation in timed if one == case}):
        whole = timed[case, name].time_ns
        for part in (case, *_parts(case)):
            found = timed.get((part, name))
            if found is None or not whole or found.time_ns is None:
                continue
            alone = "" if part == case else " alone"
            rows.append(
                {
                    "implementation": name,
                    "requests": described(parse_requests(part.requests or "")) + alone,
                    "time_median_ns": found.time_ns,
                    "tokens_per_s": found.metrics.tokens_per_s,
                    "share": 100 * found.time_ns / whole,
                    "device": device,
                    "case_id": found.case_id,
                }
            )
    return Table(columns=_COLUMNS, rows=rows, title=f"{case.label()} on {device}") if rows else None
