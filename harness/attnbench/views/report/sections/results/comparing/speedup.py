"""The section on the speed-ups of each implementation over the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import TIMES, count, duration, number, times
from attnbench.views.compare import Comparison, Pair, geometric_mean
from attnbench.views.compare_view import means_table
from attnbench.views.document import Paragraph, Table
from attnbench.views.estimates import as_fields
from attnbench.views.report.blocks import (
    Block,
    Details,
    Export,
    HeatCell,
    HeatMap,
    Lead,
    Section,
    groups_drawn,
    is_large,
    named,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.groups import Group
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.material import Material

_LEVELS = (1.07, 1.5, 2.5, 5.0)
"""Ratios from which a field of the heat map has the next stronger colour."""


def section(material: Material) -> Section:
    """Return a map for each group of cases, and the geometric means."""
    sources = material.sources
    blocks: list[Block] = []
    rows: list[Row] = []
    left, left_out = groups_drawn(sources), 0
    for source, gains in zip(sources, material.gains, strict=True):
        blocks += named(source)
        if gains is None:
            blocks.append(Paragraph(text="Nothing was timed, so there is no speed-up."))
            continue
        chosen, comparison = gains.baseline, gains.comparison
        if not comparison.pairs:
            text = f"No other implementation has a time in a case in which {chosen.name} has one."
            blocks.append(Paragraph(text=text))
            continue
        blocks.append(Lead(text=f"Speed-ups are over {chosen.name}, {chosen.why}. Above 1 is faster."))
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
    exports = [Export(stem="speedups", rows=rows)]
    return Section(anchor="speedup", title="Speed-up", blocks=blocks, exports=exports)


def _speedup_notes(source: ReportedRun, comparison: Comparison) -> list[Block]:
    notes: list[Block] = [Paragraph(text=note) for note in comparison.notes if note not in source.run.warnings]
    means = means_table(comparison)
    ran = Table(columns=means.columns, rows=[row for row in means.rows if row["pairs"]], title=means.title)
    summary = f"Geometric means over {comparison.reference}, and how the intervals come about"
    return [Paragraph(text="≈ marks a difference within noise."), Details(summary=summary, blocks=[ran, *notes])]


def _speedup_rows(source: ReportedRun, comparison: Comparison) -> list[Row]:
    return [
        {
            "run": source.run.name,
            "case_id": pair.subject.case_id,
            "case": pair.subject.case.label(),
            "implementation": pair.subject.implementation,
            "device": pair.subject.device,
            "baseline": comparison.reference,
            **as_fields("speedup", pair.speedup),
            "interval_method": pair.speedup.method,
            "difference": pair.difference,
        }
        for pair in comparison.pairs
    ]


def _mean_map(source: ReportedRun, comparison: Comparison) -> HeatMap:
    """Return geometric means over all cases of a length."""
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
    """Return a map for each group that has a speed-up; beyond the first ``most``, ``None`` only counts the group."""
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
    ends = f" ({gain.ends})" if gain.ends else ""
    return HeatCell(
        text=f"{'≈ ' if level else ''}{number(gain.value)}{TIMES}",
        level=0 if level else heat_level(gain.value),
        said=f"{cell.implementation}: {taken}, {times(gain.value)}{ends} over {baseline}",
    )


def heat_level(gain: float) -> int:
    """Return a level from -4 (much slower) to 4 (much faster)."""
    size = gain if gain >= 1 else 1 / gain
    level = sum(size >= step for step in _LEVELS)
    return level if gain >= 1 else -level
