"""The section on block-sparse masks: each implementation's gain from skipping blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.case import make_case
from attnbench.cases.counting import visible_pairs
from attnbench.cases.masks.table import instead_of
from attnbench.units import number, times
from attnbench.views.document import Paragraph, Row, Table, column
from attnbench.views.report.blocks import Block, Export, Figure, Lead, Section, named
from attnbench.views.report.charts import charts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.cases.case import Case
    from attnbench.views.cells import CellResult
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.charts.marks import Mark
    from attnbench.views.report.material import Material

_KIND = "block_sparse"


def section(material: Material) -> Section | None:
    """Return a chart for each dense case that has block-sparse variants, or ``None`` if there is none."""
    blocks: list[Block] = []
    drawn: list[Figure] = []
    for source in material.sources:
        figures = _figures(source, material.marks, first=len(drawn))
        blocks += [*named(source), *figures] if figures else []
        drawn += figures
    rows = [row for figure in drawn for row in figure.table.rows]
    if not rows:
        return None
    best = max(rows, key=lambda row: (row["length"] or 0, row["value"]))
    text = (
        f"With {best['at']} of the dense case's pairs visible {best['implementation']} gains the most: it is "
        f"{best['text']} as fast as on the dense case; {times(best['length'] or 1)} would be in proportion."
    )
    blocks.insert(0, Lead(text=text))
    note = "Each is over its own time on the dense case; who is the faster one is told by the section on times."
    exports = [Export(stem="density", rows=rows)]
    return Section(anchor="density", title="Block sparsity", blocks=[*blocks, Paragraph(text=note)], exports=exports)


def _figures(source: ReportedRun, marks: Mapping[str, Mark], first: int) -> list[Figure]:
    timed = {cell.key: cell for cell in source.cells if cell.timing is not None}
    found: dict[tuple[str, str, int | None], list[Row]] = {}
    dense_cases: dict[str, Case] = {}
    for cell in timed.values():
        if _KIND not in cell.case.mask_kinds:
            continue
        dense = _dense(cell.case)
        other = timed.get((dense.case_id, cell.implementation, cell.device))
        if other is None:
            continue
        dense_cases[dense.case_id] = dense
        rows = found.setdefault((dense.case_id, cell.device, cell.case.mask_block_size), [])
        if not any(row["implementation"] == cell.implementation for row in rows):
            rows.append(_row(source, other, other, 1.0))
        rows.append(_row(source, cell, other, visible_pairs(cell.case) / max(1, visible_pairs(dense))))
    figures: list[Figure] = []
    for (case_id, device, size), rows in found.items():
        title = f"{dense_cases[case_id].label()}, blocks of {size}, {device}"
        figures.append(_figure(f"density-{first + len(figures) + 1}", title, rows, marks))
    return figures


def _dense(case: Case) -> Case:
    """Return the same case without block lists."""
    mask = instead_of(case.mask, _KIND, "none")
    return make_case(**{**case.to_dict(), "mask": mask, "mask_block_size": None, "mask_blocks": None})


def _row(source: ReportedRun, cell: CellResult, dense: CellResult, share: float) -> Row:
    """Return the gain of a cell over the dense one; its interval combines the opposite ends of both."""
    assert cell.timing is not None
    assert dense.timing is not None
    one, whole = cell.timing.estimate, dense.timing.estimate
    gain = whole.value / one.value
    ends: tuple[float | None, float | None] = (None, None)
    if cell is not dense and one.low and one.high and whole.low and whole.high:
        ends = (whole.low / one.high, whole.high / one.low)
    return {
        "run": source.run.path,
        "case_id": cell.case_id,
        "implementation": cell.implementation,
        "device": cell.device,
        "mask": cell.case.mask_label(),
        "visible_share": share,
        "length": 1 / share if share else None,
        "at": f"{number(100 * share)} %",
        "value": gain,
        "low": ends[0],
        "high": ends[1],
        "text": times(gain),
        "of_ideal": gain * share,
    }


def _figure(stem: str, title: str, rows: Sequence[Row], marks: Mapping[str, Mark]) -> Figure:
    rows = sorted((row for row in rows if row["length"]), key=lambda row: (row["length"], row["implementation"]))
    sparsest = max(rows, key=lambda row: (row["length"], row["value"]))
    return Figure(
        stem=stem,
        title=f"Speed-up over the dense case: {title}",
        alt=f"Speed-up of each implementation over its own dense case against the share of visible pairs, {title}. At "
        f"{sparsest['at']}, where {times(sparsest['length'])} is the ideal: {sparsest['implementation']} "
        f"{sparsest['text']}.",
        drawing=charts.gain_by_share(rows, marks),
        table=Table(
            columns=[
                column("visible", "at"),
                column("mask"),
                column("implementation"),
                column("speed-up", "text"),
                column("of the ideal", "of_ideal", unit="ratio"),
            ],
            rows=rows,
        ),
        note="Dashed: the ideal, where time is that of the visible pairs alone.",
    )
