"""The section on the roofline: what was achieved of what the same machine can do at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.case import CHOICES
from attnbench.units import count, length, number, rate
from attnbench.views import columns
from attnbench.views.document import Column, Paragraph, Table
from attnbench.views.report.blocks import Block, Figure, Lead, Section
from attnbench.views.report.charts import roofline_chart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.charts.style import Mark
    from attnbench.views.report.material import Material

MOST_POINTS = 400
"""Points of one chart: of more, the best cell of each implementation and length."""


def section(material: Material) -> Section:
    """A chart for each run, device and dtype whose peaks were measured, and the best cells."""
    return Section(anchor="roofline", title="Roofline", blocks=_blocks(material.sources, material.marks))


def _blocks(sources: Sequence[ReportedRun], marks: Mapping[str, Mark]) -> list[Block]:
    blocks: list[Block] = []
    unmeasured = 0
    for source in sources:
        found: dict[tuple[str, str], list[CellResult]] = {}
        for cell in source.cells:
            if cell.timing is None:
                continue
            if cell.metrics.bound is None:
                unmeasured += 1
                continue
            found.setdefault((cell.device, cell.case.dtype), []).append(cell)
        for device, dtype in sorted(found, key=lambda key: (key[0], CHOICES["dtype"].index(key[1]))):
            stem = f"roofline-{len(blocks) + 1}"
            blocks.append(_figure(stem, source, device, dtype, found[device, dtype], marks))
    if unmeasured:
        text = f"{count(unmeasured, 'timed cell')} cannot be placed: the peaks of the dtype were not measured."
        blocks.append(Paragraph(text=text))
    if not any(isinstance(block, Figure) for block in blocks):
        return blocks or [Paragraph(text="Nothing was timed.")]
    cells = [cell for source in sources for cell in source.cells if cell.metrics.percent_of_roofline is not None]
    best = max(cells, key=lambda cell: cell.metrics.percent_of_roofline or 0)
    said = f"{best.implementation} at {length(best.case.seqlen_kv)} in {best.case.dtype}"
    lead = Lead(text=f"The best cell reaches {number(best.metrics.percent_of_roofline)} % of its roof: {said}.")
    note = Paragraph(
        text="Roofs are measured on the same machine in the same run: matrix products in the dtype, and copies of "
        "memory. Bytes count each tensor once, so a cell that keeps its data in caches can exceed the memory roof, "
        "and a library's matrix product need not be the most that a CPU can do."
    )
    return [lead, *blocks, _table(cells), note]


def _figure(
    stem: str, source: ReportedRun, device: str, dtype: str, cells: Sequence[CellResult], marks: Mapping[str, Mark]
) -> Figure:
    first = cells[0]
    assert first.metrics.peak_tflops is not None
    assert first.metrics.peak_gbytes_per_s is not None
    rows = [
        {
            "implementation": cell.implementation,
            "intensity": cell.metrics.intensity,
            "value": cell.metrics.tflops,
            "at": length(cell.case.seqlen_kv),
            "text": f"{rate(cell.metrics.tflops)}, {number(cell.metrics.percent_of_roofline)} % of the roof",
        }
        for cell in _fewer(cells)
    ]
    name = f"{source.name}: {device} · {dtype}" if source.name else f"{device} · {dtype}"
    bound = {word: sum(1 for cell in cells if cell.metrics.bound == word) for word in ("compute", "memory")}
    best = max(cells, key=lambda cell: cell.metrics.percent_of_roofline or 0)
    return Figure(
        stem=stem,
        title=name,
        alt=f"Achieved rate against arithmetic intensity, {name}; roofs {rate(first.metrics.peak_tflops)} and "
        f"{number(first.metrics.peak_gbytes_per_s)} GB/s. Compute bounds {count(bound['compute'], 'cell')}"
        f", memory {count(bound['memory'], 'cell')}. Best: {best.implementation}, "
        f"{number(best.metrics.percent_of_roofline)} % of its roof.",
        drawing=roofline_chart.roofline(
            rows, marks, peak_tflops=first.metrics.peak_tflops, peak_gbytes_per_s=first.metrics.peak_gbytes_per_s
        ),
        table=_table(cells),
        note=f"Roofs: {rate(first.metrics.peak_tflops)} and {number(first.metrics.peak_gbytes_per_s)} GB/s.",
        facets={"device": device, "dtype": dtype, "run": source.name or "this run"},
    )


def _fewer(cells: Sequence[CellResult]) -> list[CellResult]:
    if len(cells) <= MOST_POINTS:
        return list(cells)
    best: dict[tuple[str, int], CellResult] = {}
    for cell in cells:
        key = (cell.implementation, cell.case.seqlen_kv)
        if key not in best or (cell.metrics.percent_of_roofline or 0) > (best[key].metrics.percent_of_roofline or 0):
            best[key] = cell
    return list(best.values())


def _table(cells: Sequence[CellResult]) -> Table:
    """The best cell of each implementation, device and dtype."""
    best: dict[tuple[str, str, str], CellResult] = {}
    for cell in cells:
        key = (cell.device, cell.case.dtype, cell.implementation)
        if key not in best or (cell.metrics.percent_of_roofline or 0) > (best[key].metrics.percent_of_roofline or 0):
            best[key] = cell
    rows: list[Row] = [
        {**cell.numbers(), "length": cell.case.seqlen_kv, "intensity": cell.metrics.intensity}
        for _, cell in sorted(best.items())
    ]
    return Table(
        title="The best cell of each",
        columns=[
            Column(title="device", text=lambda row: str(row["device"])),
            Column(title="dtype", text=lambda row: str(row["dtype"])),
            columns.IMPLEMENTATION,
            columns.length_column("at seqlen"),
            Column(title="FLOP / byte", text=lambda row: number(row["intensity"]), is_number=True),
            *map(columns.of_metric, ("tflops", "gbytes_per_s", "percent_of_peak", "percent_of_roofline", "bound")),
        ],
        rows=rows,
    )
