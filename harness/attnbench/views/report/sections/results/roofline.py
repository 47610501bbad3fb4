"""The section on the roofline: achieved rates compared with the machine's measured peaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.choices import CHOICES
from attnbench.units import count, length, number, rate
from attnbench.views import columns
from attnbench.views.document import Paragraph, Table, column
from attnbench.views.report.blocks import Block, Figure, Lead, Section
from attnbench.views.report.charts import roofline_chart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.charts.marks import Mark
    from attnbench.views.report.material import Material

MOST_POINTS = 400
"""With more points, a chart shows the best cell of each implementation and length."""


def section(material: Material) -> Section:
    """Return a chart for each run, device and dtype with measured peaks, and the best cells."""
    return Section(anchor="roofline", title="Roofline", blocks=_blocks(material.sources, material.marks))


def _blocks(sources: Sequence[ReportedRun], marks: Mapping[str, Mark]) -> list[Block]:
    blocks: list[Block] = []
    unmeasured = 0
    for source in sources:
        found: dict[tuple[str, str], list[CellResult]] = {}
        for cell in source.cells:
            if cell.timing is None or not cell.metrics.flops:  # without visible keys nothing is computed
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
    best = max(cells, key=_of_roofline)
    said = f"{best.implementation} at {length(best.case.seqlen_kv)} in {best.case.dtype}"
    lead = Lead(
        text=f"The best cell reaches {number(best.metrics.percent_of_roofline)} % of its roof: {said}.{_above(best)}"
    )
    note = Paragraph(
        text="Roofs are measured on the same machine in the same run: matrix products in the dtype, and copies of "
        "memory. Bytes count each tensor once, so a cell that keeps its data in caches can exceed the memory roof, "
        "and a library's matrix product need not be the most that a CPU can do."
    )
    return [lead, *blocks, _table(cells), note]


def _above(best: CellResult) -> str:
    """Return a sentence on why a cell is beyond its roof; it is empty if it is not."""
    if (best.metrics.percent_of_roofline or 0.0) <= 100:
        return ""
    if best.metrics.bound == "memory":
        return " Above the roof: its data stay in a cache, and the roof is that of memory."
    return " Above the roof: that is what torch's or NumPy's matrix product reached, and this kernel is faster."


def _figure(
    stem: str, source: ReportedRun, device: str, dtype: str, cells: Sequence[CellResult], marks: Mapping[str, Mark]
) -> Figure:
    first = cells[0]
    assert first.metrics.peak_tflops is not None
    assert first.metrics.peak_gbytes_per_s is not None
    of_each = _best(cells, lambda cell: (cell.implementation, cell.case.seqlen_kv))
    drawn = cells if len(cells) <= MOST_POINTS else of_each
    rows = [
        {
            "implementation": cell.implementation,
            "intensity": cell.metrics.intensity,
            "value": cell.metrics.tflops,
            "at": length(cell.case.seqlen_kv),
            "text": f"{rate(cell.metrics.tflops)}, {number(cell.metrics.percent_of_roofline)} % of the roof",
        }
        for cell in drawn
    ]
    name = f"{source.name}: {device} · {dtype}" if source.name else f"{device} · {dtype}"
    bound = {word: sum(1 for cell in cells if cell.metrics.bound == word) for word in ("compute", "memory")}
    best = max(cells, key=_of_roofline)
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


def _of_roofline(cell: CellResult) -> float:
    return cell.metrics.percent_of_roofline or 0.0


def _best(cells: Sequence[CellResult], key: Callable[[CellResult], tuple[str | int, ...]]) -> list[CellResult]:
    """Return the cell nearest to its roof for each key."""
    best: dict[tuple[str | int, ...], CellResult] = {}
    for cell in cells:
        if key(cell) not in best or _of_roofline(cell) > _of_roofline(best[key(cell)]):
            best[key(cell)] = cell
    return [best[key] for key in sorted(best)]


def _table(cells: Sequence[CellResult]) -> Table:
    """Return the best cell of each implementation, device and dtype."""
    rows: list[Row] = [
        {**cell.numbers(), "length": cell.case.seqlen_kv, "intensity": cell.metrics.intensity}
        for cell in _best(cells, lambda cell: (cell.device, cell.case.dtype, cell.implementation))
    ]
    return Table(
        title="The best cell of each",
        columns=[
            column("device"),
            column("dtype"),
            columns.IMPLEMENTATION,
            columns.length_column("at seqlen"),
            column("FLOP / byte", "intensity", unit="ratio"),
            *map(columns.of_metric, ("tflops", "gbytes_per_s", "percent_of_peak", "percent_of_roofline", "bound")),
        ],
        rows=rows,
    )
