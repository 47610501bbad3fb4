"""The section on the fastest implementation of each case, its lead, and ties within noise."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from attnbench.units import count, duration, length, listing, times
from attnbench.views.answer.winners import Winner, winners_of
from attnbench.views.document import Column, Paragraph, Table, column
from attnbench.views.estimates import as_fields
from attnbench.views.report.blocks import (
    MOST_ROWS,
    Block,
    Details,
    Export,
    MapCell,
    MapRow,
    Section,
    WinnerMap,
    is_large,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.views.document import Row
    from attnbench.views.groups import Group
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.material import Material


_LEGEND = (
    "Each field names the fastest implementation and its lead over the next one that is clearly slower, with the 95 % "
    "interval of that ratio. ≈ marks those whose time cannot be told from the fastest one's: the interval of the "
    "ratio of the two times contains 1, or, with fewer than six processes for each cell, the lead is less than 2 %. "
    "They need not be equal: the interval beside each one shows how far apart the two may be. If an implementation is "
    "hidden, the fastest of the others is named."
)


def section(material: Material) -> Section | None:
    """Return the winners of all cases as a map and as a list, or ``None`` if nothing was timed."""
    sources = material.sources
    found = [(source, group, winners_of(group)) for source in sources for group in source.grouping.groups]
    timed = [(source, group, of_group) for source, group, of_group in found if of_group]
    if not timed:
        return None
    blocks: list[Block] = []
    for index, axis in enumerate(sorted({group.axis for _, group, _ in timed}), start=1):
        of_axis = [entry for entry in timed if entry[1].axis == axis]
        blocks += [_summary(f"winners-{index}", of_axis, axis)] if is_large(sources) else []
        blocks.append(_map(f"winners-by-group-{index}", of_axis, axis))
    blocks.append(Paragraph(text=_LEGEND))
    blocks.append(Details(summary="The same as a list", blocks=_answer_list(timed)))
    exports = [Export(stem="winners", rows=_winner_rows(timed))]
    return Section(anchor="winners", title="Which is fastest where", blocks=blocks, exports=exports)


def _answer_list(timed: Sequence[tuple[ReportedRun, Group, list[Winner]]]) -> list[Block]:
    table = answer_table((source.title(group), group, of_group) for source, group, of_group in timed)
    left_out = len(table.rows) - MOST_ROWS
    if left_out <= 0:
        return [table]
    note = Paragraph(text=f"{count(left_out, 'more line')} of this list: data/winners.csv has each case.")
    return [dataclasses.replace(table, rows=table.rows[:MOST_ROWS]), note]


def _map(stem: str, chosen: Sequence[tuple[ReportedRun, Group, list[Winner]]], axis: str) -> WinnerMap:
    lengths = _lengths_of(chosen)
    rows = []
    for source, group, of_group in chosen[:MOST_ROWS]:
        by_length = {winner.tokens: winner for winner in of_group}
        label = source.title(group)
        cells = tuple(_map_cell(by_length[n], label, axis) if n in by_length else None for n in lengths)
        rows.append(MapRow(label=label, cells=cells))
    left_out = max(0, len(chosen) - MOST_ROWS)
    return WinnerMap(stem=stem, corner=axis, lengths=tuple(lengths), rows=tuple(rows), left_out=left_out)


def _summary(stem: str, chosen: Sequence[tuple[ReportedRun, Group, list[Winner]]], axis: str) -> WinnerMap:
    """Return the most frequent winner over all groups, and over the groups that share a value of a facet."""
    lengths = _lengths_of(chosen)
    sharing: dict[str, dict[int, list[Winner]]] = {}
    facets_of = [source.facets(group) for source, group, _ in chosen]
    varying = [name for name in facets_of[0] if len({facets[name] for facets in facets_of}) > 1]
    for facets, (_, _, of_group) in zip(facets_of, chosen, strict=True):
        for label in ("all", *(f"{name} {facets[name]}" for name in varying)):
            at = sharing.setdefault(label, {})
            for winner in of_group:
                at.setdefault(winner.tokens, []).append(winner)
    order = ["all", *(f"{name} {value}" for name in varying for value in dict.fromkeys(f[name] for f in facets_of))]
    rows = tuple(
        MapRow(label=label, cells=tuple(_most_often(sharing[label].get(n, []), label, n) for n in lengths))
        for label in order
    )
    return WinnerMap(stem=stem, corner=axis, lengths=tuple(lengths), rows=rows, of_groups=False)


def _most_often(winners: Sequence[Winner], label: str, tokens: int) -> MapCell | None:
    if not winners:
        return None
    wins = collections.Counter(winner.names[0] for winner in winners if winner.is_clear)
    alone = sum(winner.is_alone for winner in winners)
    counts = {"within noise": len(winners) - wins.total() - alone, "alone": alone}
    others = [f"{n} {words}" for words, n in counts.items() if n]
    ordered = sorted(wins.items(), key=lambda item: (-item[1], item[0]))
    said = f"{label}, {length(tokens)}: of {count(len(winners), 'case')}, "
    said += listing([*(f"{one} in {n}" for one, n in ordered), *others], most=8)
    if not ordered:
        return MapCell(names=(), lead=", ".join(others), said=said)
    name, most = ordered[0]
    return MapCell(names=(name,), lead=", ".join([f"{most} of {len(winners)}", *others]), said=said)


def _lengths_of(chosen: Sequence[tuple[ReportedRun, Group, list[Winner]]]) -> list[int]:
    return sorted({winner.tokens for _, _, of_group in chosen for winner in of_group})


def _map_cell(winner: Winner, label: str, axis: str) -> MapCell:
    lead = winner.lead
    text, beside = "", ""
    if lead is not None:
        ends = f" ({lead.ends})" if lead.ends else ""
        text, beside = f"{times(lead.value)}{ends}", f", {times(lead.value)}{ends} ahead of {winner.runner_up}"
    level = f", within noise of {listing(list(winner.names[1:]))}" if len(winner.names) > 1 else ""
    ties = tuple(tie.ends for tie in winner.ties)
    said = f"{label}, {axis} {length(winner.tokens)}: {winner.names[0]} {duration(winner.time_ns)}{level}{beside}"
    return MapCell(names=winner.names, ties=ties, lead=f"then {text}" if text and level else text, said=said)


def _winner_rows(found: Iterable[tuple[ReportedRun, Group, list[Winner]]]) -> list[Row]:
    return [
        {
            **source.facets(group),
            "cases": source.title(group),
            "axis": group.axis,
            "length": winner.tokens,
            "fastest": winner.names[0],
            "within_noise": list(winner.names[1:]),
            "time_median_ns": winner.time_ns,
            "runner_up": winner.runner_up,
            **as_fields("lead", winner.lead),
            "lead_method": winner.lead and winner.lead.method,
        }
        for source, group, of_group in found
        for winner in of_group
    ]


def answer_table(groups: Iterable[tuple[str, Group, Sequence[Winner]]]) -> Table:
    """Return a row for each stretch of lengths with the same leaders, for each named group's winners."""
    rows = [
        _row(name, group, stretch) for name, group, winners in groups for stretch in _stretches(winners)
    ]  # fmt: skip
    return Table(
        columns=[
            column("cases"),
            Column(title="seqlen", text=_lengths, is_number=True),
            column("fastest", is_implementation=True),
            Column(title="within noise of it", text=lambda row: listing(row["within_noise"]) or ""),
            Column(title="time", text=lambda row: _span([duration(ns) for ns in row["times_ns"]]), is_number=True),
            Column(title="ahead of the next by", text=lambda row: _span([times(lead) for lead in row["leads"]])),
            Column(title="which is", text=lambda row: listing(row["runners_up"], most=3)),
        ],
        rows=rows,
    )


def _stretches(winners: Sequence[Winner]) -> list[list[Winner]]:
    """Join neighbouring lengths that have the same leaders."""
    stretches: list[list[Winner]] = []
    for winner in winners:
        if stretches and set(stretches[-1][-1].names) == set(winner.names):
            stretches[-1].append(winner)
        else:
            stretches.append([winner])
    return stretches


def _row(name: str, group: Group, stretch: Sequence[Winner]) -> Row:
    fastest = collections.Counter(winner.names[0] for winner in stretch).most_common(1)[0][0]
    leads = [winner.lead.value for winner in stretch if winner.lead is not None]
    return {
        "cases": name,
        "axis": group.axis,
        "lengths": [winner.tokens for winner in stretch],
        "fastest": fastest,
        "within_noise": sorted(set(stretch[0].names) - {fastest}),
        "times_ns": [winner.time_ns for winner in stretch],
        "leads": [min(leads), max(leads)] if leads else [],
        "runners_up": list(dict.fromkeys(winner.runner_up for winner in stretch if winner.runner_up)),
    }


def _lengths(row: Row) -> str:
    span = _span([length(tokens) for tokens in row["lengths"]])
    return span if row["axis"] == "seqlen" else f"{span} keys"


def _span(texts: Sequence[str]) -> str:
    """Return the first and the last text, or the only one."""
    if not texts:
        return ""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} … {texts[-1]}"
