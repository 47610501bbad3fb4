"""The section on time: curves, raw samples, and what comes before the first result. And the one on speed-ups."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from attnbench.units import TIMES, count, duration, length, number, times
from attnbench.views import columns
from attnbench.views.cells import PER_SAMPLE
from attnbench.views.compare import Comparison, Pair, baseline_of, compare_implementations, geometric_mean
from attnbench.views.compare_view import means_table
from attnbench.views.document import Column, Paragraph, Table
from attnbench.views.report.blocks import (
    Block,
    Details,
    Export,
    HeatCell,
    HeatMap,
    Lead,
    Strips,
    groups_drawn,
    is_large,
    named,
)
from attnbench.views.report.charts.figures import group_figures, time_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.groups import Group
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.charts.style import Mark

MOST_STRIPS = 240
"""Cells whose raw samples are drawn; every record of the run file has them."""
_STRIP_SAMPLES = 60
_LEVELS = (1.07, 1.5, 2.5, 5.0)
"""Ratios from which a field of the heat map is of a stronger colour."""


def time_blocks(sources: Sequence[ReportedRun], marks: Mapping[str, Mark]) -> tuple[list[Block], list[Export]]:
    """The section on time, and the raw samples that it draws."""
    cells = [cell for source in sources for cell in source.cells]
    blocks = group_figures(sources, marks, "time", time_figure)
    if any(cell.metrics.time_wall_ns is not None for cell in cells):
        text = (
            "On CUDA the median is the device's time with a cold second-level cache; beside it stand the wall time of "
            "a call and the wait for it, one call of a replayed graph, and what the host needs to launch."
        )
        blocks.append(Paragraph(text=text))
    before = _before_first(cells)
    if before.rows:
        blocks.append(Details(summary="Preparing and the first call", blocks=[before]))
    strips, samples = _strips(sources)
    return [*blocks, *strips], [Export(stem="samples", rows=samples)]


def _before_first(cells: Sequence[CellResult]) -> Table:
    """What an implementation costs before it runs at its speed: the largest over all of its cells."""
    found: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.metrics.first_call_ns is not None or cell.metrics.prepare_ns is not None:
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
    prepare = [ns for cell in cells if (ns := cell.metrics.prepare_ns) is not None]
    first = [ns for cell in cells if (ns := cell.metrics.first_call_ns) is not None]
    over = [ns / cell.time_ns for cell in cells if (ns := cell.metrics.first_call_ns) is not None and cell.time_ns]
    return {
        "implementation": name,
        "prepare_ns": statistics.median(prepare) if prepare else None,
        "prepare_most_ns": max(prepare, default=None),
        "first_ns": statistics.median(first) if first else None,
        "first_most_ns": max(first, default=None),
        "first_over_later": statistics.median(over) if over else None,
    }


def _strips(sources: Sequence[ReportedRun]) -> tuple[list[Block], list[Row]]:
    """Raw samples of each group, closed until they are asked for; and as numbers, a row for each process."""
    blocks: list[Block] = []
    rows: list[Row] = []
    drawn, left_out = 0, 0
    for source in sources:
        for group in source.grouping.groups:
            cells = [cell for cell in group.cells if cell.metrics.time_samples_ns]
            if not cells:
                continue
            if drawn + len(cells) > MOST_STRIPS:
                left_out += len(cells)
                continue
            drawn += len(cells)
            blocks.append(_strips_of(source.title(group), cells))
            rows += [row for cell in cells for row in _sample_rows(source, cell)]
    if left_out:
        blocks.append(Paragraph(text=f"Samples of {left_out:,} more cells are in the run file only."))
    if not blocks:
        return [], []
    return [Details(summary="Raw samples, in the order in which they were taken", blocks=blocks)], rows


def _sample_rows(source: ReportedRun, cell: CellResult) -> list[Row]:
    return [
        {
            "run": source.run.path,
            "case_id": cell.case_id,
            "case": cell.case.label(),
            "implementation": cell.implementation,
            "device": cell.device,
            "process": process,
            **{name: record[name] for name in PER_SAMPLE},
        }
        for process, record in enumerate(record for record in cell.counted if record["time_samples_ns"])
    ]


def _strips_of(title: str, cells: Sequence[CellResult]) -> Strips:
    rows = []
    for cell in cells:
        samples = cell.metrics.time_samples_ns or ()
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


def speedup_blocks(sources: Sequence[ReportedRun], baseline: str | None) -> tuple[list[Block], list[Export]]:
    """The section on speed-ups, and its numbers."""
    blocks: list[Block] = []
    rows: list[Row] = []
    left, left_out = groups_drawn(sources), 0
    for source in sources:
        blocks += named(source)
        chosen, why = _chosen_baseline(source, baseline)
        if chosen is None:
            blocks.append(Paragraph(text="Nothing was timed, so there is no speed-up."))
            continue
        comparison = compare_implementations(source.run, chosen, cells=source.cells)
        if not comparison.pairs:
            text = f"No other implementation has a time in a case in which {chosen} has one."
            blocks.append(Paragraph(text=text))
            continue
        blocks.append(Lead(text=f"Speed-ups are over {chosen}, {why}. Above 1 is faster."))
        if is_large(sources):
            blocks.append(_mean_map(source, comparison))
        maps = _heat_maps(source, comparison, left)
        blocks += [*(shown for shown in maps if shown), *_speedup_notes(source, comparison)]
        left_out += max(0, len(maps) - left)
        left = max(0, left - len(maps))
        rows += _speedup_rows(source, comparison)
    if left_out:
        text = f"{count(left_out, 'more group')} of cases are not shown here: where scripts run, choose one above; "
        blocks.append(Paragraph(text=f"{text}data/speedups.csv has them all."))
    return blocks, [Export(stem="speedups", rows=rows)]


def _chosen_baseline(source: ReportedRun, asked_for: str | None) -> tuple[str | None, str]:
    """The implementation that speed-ups are over, and why that one."""
    if any(cell.implementation == asked_for for cell in source.cells):
        return asked_for, "which was asked for"
    chosen = baseline_of(source.run.header, source.cells)
    if chosen is not None:
        return chosen, "the scenario's baseline"
    return (
        most_timed(source.cells),
        "which has a time in the most cases: the scenario names no baseline that was run",
    )


def _speedup_notes(source: ReportedRun, comparison: Comparison) -> list[Block]:
    notes: list[Block] = [Paragraph(text=note) for note in comparison.notes if note not in source.run.warnings]
    means = means_table(comparison)
    ran = Table(columns=means.columns, rows=[row for row in means.rows if row["pairs"]], title=means.title)
    summary = f"Geometric means over {comparison.reference}, and how the intervals come about"
    return [Paragraph(text="≈ marks a difference within noise."), Details(summary=summary, blocks=[ran, *notes])]


def _speedup_rows(source: ReportedRun, comparison: Comparison) -> list[Row]:
    return [
        {
            "run": source.run.path,
            "case_id": pair.subject.case_id,
            "case": pair.subject.case.label(),
            "implementation": pair.subject.implementation,
            "device": pair.subject.device,
            "baseline": comparison.reference,
            "speedup": pair.speedup.value,
            "speedup_low": pair.speedup.low,
            "speedup_high": pair.speedup.high,
            "interval_method": pair.speedup.method,
            "difference": pair.difference,
        }
        for pair in comparison.pairs
    ]


def most_timed(cells: Sequence[CellResult]) -> str | None:
    """The implementation with a time in the most cases; of several, the first by name."""
    timed: dict[str, int] = {}
    for cell in cells:
        if cell.timing is not None:
            timed[cell.implementation] = timed.get(cell.implementation, 0) + 1
    return min(timed, key=lambda name: (-timed[name], name)) if timed else None


def _mean_map(source: ReportedRun, comparison: Comparison) -> HeatMap:
    """Geometric means over all cases of a length."""
    found: dict[str, dict[int, list[float]]] = {}
    for pair in comparison.pairs:
        at = found.setdefault(pair.subject.implementation, {})
        at.setdefault(pair.subject.case.seqlen_kv, []).append(pair.speedup.value)
    lengths = sorted({tokens for at in found.values() for tokens in at})
    rows = tuple(
        (name, tuple(_mean_cell(at.get(n, ())) for n in lengths)) for name, at in sorted(found.items())
    )  # fmt: skip
    where = f"{source.name}: " if source.name else ""
    return HeatMap(
        stem=f"speedup-mean-{source.first}",
        title=f"{where}geometric mean over all cases: speed-up over {comparison.reference}",
        corner="seqlen_kv",
        lengths=tuple(lengths),
        rows=rows,
        facets={"run": source.name or "this run"},
        baseline=comparison.reference,
    )


def _mean_cell(speedups: Sequence[float]) -> HeatCell | None:
    mean = geometric_mean(speedups)
    if mean is None:
        return None
    said = f"{count(len(speedups), 'case')}, {times(min(speedups))} to {times(max(speedups))}"
    return HeatCell(text=f"{number(mean)}{TIMES}", level=heat_level(mean), said=said)


def _heat_maps(source: ReportedRun, comparison: Comparison, most: int) -> list[HeatMap | None]:
    """One for each group that has a speed-up; beyond as many as are shown they are only counted, as ``None``."""
    pairs = {pair.subject.key: pair for pair in comparison.pairs}
    maps: list[HeatMap | None] = []
    for index, group in enumerate(source.grouping.groups, start=source.first):
        if any(cell.key in pairs for cell in group.cells):
            shown = len(maps) < most
            maps.append(_heat_map(index, source, group, pairs, comparison.reference) if shown else None)
    return maps


def _heat_map(
    index: int, source: ReportedRun, group: Group, pairs: Mapping[tuple[str, str, str], Pair], baseline: str
) -> HeatMap:
    lengths = [n for n in group.lengths if any(cell.timing for cell in group.at(n))]
    by_place = {(cell.implementation, cell.case.seqlen_kv): cell for cell in group.cells}
    names = sorted({cell.implementation for cell in group.cells if cell.timing})
    rows = []
    for name in names:
        cells = [by_place.get((name, n)) for n in lengths]
        rows.append((name, tuple(_heat_cell(cell, pairs, baseline) if cell else None for cell in cells)))
    return HeatMap(
        stem=f"speedup-{index}",
        title=f"{source.title(group)}: speed-up over {baseline}",
        corner=group.axis,
        lengths=tuple(lengths),
        rows=tuple(rows),
        facets=source.facets(group),
        baseline=baseline,
        group=index,
    )


def _heat_cell(cell: CellResult, pairs: Mapping[tuple[str, str, str], Pair], baseline: str) -> HeatCell:
    if cell.timing is None:
        return HeatCell(text=cell.status if cell.status != "ok" else "", level=0, said=cell.reason or "")
    taken = duration(cell.timing.value)
    if cell.implementation == baseline:
        return HeatCell(text="1", level=0, said=f"{baseline}: {taken}")
    pair = pairs.get(cell.key)
    if pair is None:
        return HeatCell(text="", level=0, said=taken)
    gain = pair.speedup
    level = pair.difference == "within noise"
    ends = f" ({number(gain.low)} … {number(gain.high)})" if gain.low is not None else ""
    return HeatCell(
        text=f"{'≈ ' if level else ''}{number(gain.value)}{TIMES}",
        level=0 if level else heat_level(gain.value),
        said=f"{cell.implementation}: {taken}, {times(gain.value)}{ends} over {baseline}",
    )


def heat_level(gain: float) -> int:
    """From -4 (much slower) to 4 (much faster)."""
    size = gain if gain >= 1 else 1 / gain
    level = sum(size >= step for step in _LEVELS)
    return level if gain >= 1 else -level
