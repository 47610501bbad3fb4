"""The section on time: curves, raw samples, and what comes before the first result. And the one on speed-ups."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from attnbench.views import columns
from attnbench.views.compare import Comparison, Pair, baseline_of, compare_implementations
from attnbench.views.compare_view import means_table
from attnbench.views.document import Column, Paragraph, Table
from attnbench.views.format import TIMES, duration, length, number, times
from attnbench.views.report.blocks import Block, Details, HeatCell, HeatMap, Lead, Strips, named
from attnbench.views.report.figures import group_figures, time_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.groups import Group
    from attnbench.views.report.blocks import Source
    from attnbench.views.report.style import Mark

MOST_STRIPS = 240
"""Cells whose raw samples are drawn; every record of the run file has them."""
_STRIP_SAMPLES = 60
_LEVELS = (1.07, 1.5, 2.5, 5.0)
"""Ratios from which a field of the heat map is of a stronger colour."""


def time_blocks(sources: Sequence[Source], marks: Mapping[str, Mark]) -> list[Block]:
    """The section on time."""
    cells = [cell for source in sources for cell in source.cells]
    blocks = group_figures(sources, marks, "time", time_figure)
    if any(cell.wall_ns is not None for cell in cells):
        text = (
            "On CUDA the median is the device's time with a cold second-level cache; beside it stand the wall time of "
            "a call and the wait for it, one call of a replayed graph, and what the host needs to launch."
        )
        blocks.append(Paragraph(text=text))
    before = _before_first(cells)
    if before.rows:
        blocks.append(Details(summary="Preparing and the first call", blocks=[before]))
    strips = _strips(sources)
    return [*blocks, *strips]


def _before_first(cells: Sequence[CellResult]) -> Table:
    """What an implementation costs before it runs at its speed: the largest over all of its cells."""
    found: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.first_call_ns is not None or cell.prepare_ns is not None:
            found.setdefault(cell.implementation, []).append(cell)
    rows = [_before_row(name, of_name) for name, of_name in sorted(found.items())]
    return Table(
        columns=[
            columns.IMPLEMENTATION,
            Column(title="prepare, median", text=lambda row: duration(row["prepare_ns"]), is_number=True),
            Column(title="largest", text=lambda row: duration(row["prepare_most_ns"]), is_number=True),
            Column(title="first call, median", text=lambda row: duration(row["first_ns"]), is_number=True),
            Column(title="largest", text=lambda row: duration(row["first_most_ns"]), is_number=True),
            Column(title="first call / later ones", text=lambda row: times(row["first_over_later"]), is_number=True),
        ],
        rows=rows,
    )


def _before_row(name: str, cells: Sequence[CellResult]) -> Row:
    prepare = [cell.prepare_ns for cell in cells if cell.prepare_ns is not None]
    first = [cell.first_call_ns for cell in cells if cell.first_call_ns is not None]
    over = [cell.first_call_ns / cell.time_ns for cell in cells if cell.first_call_ns is not None and cell.time_ns]
    return {
        "implementation": name,
        "prepare_ns": statistics.median(prepare) if prepare else None,
        "prepare_most_ns": max(prepare, default=None),
        "first_ns": statistics.median(first) if first else None,
        "first_most_ns": max(first, default=None),
        "first_over_later": statistics.median(over) if over else None,
    }


def _strips(sources: Sequence[Source]) -> list[Block]:
    """Raw samples of each group, closed until they are asked for."""
    blocks: list[Block] = []
    drawn, left_out = 0, 0
    for source in sources:
        for group in source.grouping.groups:
            cells = [cell for cell in group.cells if cell.samples]
            if not cells:
                continue
            if drawn + len(cells) > MOST_STRIPS:
                left_out += len(cells)
                continue
            drawn += len(cells)
            blocks.append(_strips_of(source.title(group), cells))
    if left_out:
        blocks.append(Paragraph(text=f"Samples of {left_out:,} more cells are in the run file only."))
    if not blocks:
        return []
    return [Details(summary="Raw samples, in the order in which they were taken", blocks=blocks)]


def _strips_of(title: str, cells: Sequence[CellResult]) -> Strips:
    rows = []
    for cell in cells:
        samples = [sample for process in cell.samples for sample in process]
        ordered = sorted(samples)
        rows.append(
            {
                "implementation": cell.implementation,
                "length": length(cell.case.seqlen_kv),
                "count": f"{len(samples):,}",
                "least": duration(ordered[0]),
                "middle": duration(statistics.median(ordered)),
                "most": duration(ordered[-1]),
                "samples": _thinned(samples),
            }
        )
    titles = (("seqlen", "length"), ("samples", "count"), ("least", "least"), ("median", "middle"), ("most", "most"))
    return Strips(title=title, rows=rows, columns=titles)


def _thinned(samples: Sequence[float]) -> list[float]:
    """Every second, third, ... of many samples, and the largest of all."""
    step = -(-len(samples) // _STRIP_SAMPLES)
    kept = list(samples[::step])
    largest = max(samples)
    if largest not in kept:
        kept[samples.index(largest) // step] = largest
    return kept


def speedup_blocks(sources: Sequence[Source], baseline: str | None) -> list[Block]:
    """The section on speed-ups."""
    blocks: list[Block] = []
    for source in sources:
        blocks += named(source)
        blocks += _speedups_of(source, baseline, prefix=f"speedup-{len(blocks)}")
    return blocks


def _speedups_of(source: Source, named_baseline: str | None, prefix: str) -> list[Block]:
    present = {cell.implementation for cell in source.cells}
    wanted = named_baseline if named_baseline in present else None
    chosen = wanted or baseline_of(source.run.header, source.cells)
    why = "which was asked for" if wanted else "the scenario's baseline"
    if chosen is None:
        chosen = most_timed(source.cells)
        why = "which has a time in the most cases: the scenario names no baseline that was run"
    if chosen is None:
        return [Paragraph(text="Nothing was timed, so there is no speed-up.")]
    comparison = compare_implementations(source.run, chosen, cells=source.cells)
    if not comparison.pairs:
        return [Paragraph(text=f"No other implementation has a time in a case in which {chosen} has one.")]
    notes: list[Block] = [Paragraph(text=note) for note in comparison.notes if note not in source.run.warnings]
    means = means_table(comparison)
    ran = Table(columns=means.columns, rows=[row for row in means.rows if row["pairs"]], title=means.title)
    return [
        Lead(text=f"Speed-ups are over {chosen}, {why}. Above 1 is faster."),
        *_heat_maps(source, comparison, chosen, prefix),
        Paragraph(text="≈ marks a difference within noise."),
        Details(summary=f"Geometric means over {chosen}, and how the intervals come about", blocks=[ran, *notes]),
    ]


def most_timed(cells: Sequence[CellResult]) -> str | None:
    """The implementation with a time in the most cases; of several, the first by name."""
    timed: dict[str, int] = {}
    for cell in cells:
        if cell.timing is not None:
            timed[cell.implementation] = timed.get(cell.implementation, 0) + 1
    return min(timed, key=lambda name: (-timed[name], name)) if timed else None


def _heat_maps(source: Source, comparison: Comparison, baseline: str, prefix: str) -> list[Block]:
    pairs = {pair.subject.key: pair for pair in comparison.pairs}
    blocks: list[Block] = []
    for index, group in enumerate(source.grouping.groups):
        if any(cell.key in pairs for cell in group.cells):
            blocks.append(_heat_map(f"{prefix}-{index}", source, group, pairs, baseline))
    return blocks


def _heat_map(
    stem: str, source: Source, group: Group, pairs: Mapping[tuple[str, str, str], Pair], baseline: str
) -> HeatMap:
    lengths = [n for n in group.lengths if any(cell.timing for cell in group.at(n))]
    by_place = {(cell.implementation, cell.case.seqlen_kv): cell for cell in group.cells}
    names = sorted({cell.implementation for cell in group.cells if cell.timing})
    rows = []
    for name in names:
        cells = [by_place.get((name, n)) for n in lengths]
        rows.append((name, tuple(_heat_cell(cell, pairs, baseline) if cell else None for cell in cells)))
    return HeatMap(
        stem=stem,
        title=f"{source.title(group)}: speed-up over {baseline}",
        corner=group.axis,
        columns=tuple(map(length, lengths)),
        rows=tuple(rows),
        facets=source.facets(group),
        baseline=baseline,
    )


def _heat_cell(cell: CellResult, pairs: Mapping[tuple[str, str, str], Pair], baseline: str) -> HeatCell:
    if cell.timing is None:
        return HeatCell(text=cell.status if cell.status != "ok" else "", level=0, said=cell.reason or "")
    estimate = cell.timing.estimate
    data = {"ns": estimate.value}
    if estimate.low is not None and estimate.high is not None:
        data |= {"low": estimate.low, "high": estimate.high}
    if cell.implementation == baseline:
        return HeatCell(text="1", level=0, said=f"{baseline}: {duration(estimate.value)}", data=data)
    pair = pairs.get(cell.key)
    if pair is None:
        return HeatCell(text="", level=0, said=duration(estimate.value), data=data)
    gain = pair.speedup
    level = pair.difference == "within noise"
    ends = f" ({number(gain.low)} … {number(gain.high)})" if gain.low is not None else ""
    return HeatCell(
        text=f"{'≈ ' if level else ''}{number(gain.value)}{TIMES}",
        level=0 if level else heat_level(gain.value),
        said=f"{cell.implementation}: {duration(estimate.value)}, {times(gain.value)}{ends} over {baseline}",
        data=data,
    )


def heat_level(gain: float) -> int:
    """From -4 (much slower) to 4 (much faster)."""
    size = gain if gain >= 1 else 1 / gain
    level = sum(size >= step for step in _LEVELS)
    return level if gain >= 1 else -level
