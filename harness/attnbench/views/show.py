"""The view of one run: the request, the results of each case, and the reasons for what is missing; or the answer."""

from __future__ import annotations

import collections
import functools
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.store.header import checking_sentence
from attnbench.store.machines import by_machine
from attnbench.units import count, duration, length, listing, size
from attnbench.views import columns
from attnbench.views.answer.noise import noise_sentences
from attnbench.views.answer.plot import log_plot
from attnbench.views.answer.sentence import run_sentences
from attnbench.views.answer.summary import summary_table
from attnbench.views.cells import NEVER_RAN, cells_of
from attnbench.views.compare import baseline_of, compare_implementations
from attnbench.views.document import Block, Column, Heading, Paragraph, Plot, Row, Table, View
from attnbench.views.estimates import as_fields
from attnbench.views.groups import group_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.store.reader import RunFile
    from attnbench.store.record import CellKey
    from attnbench.views.cells import CellResult
    from attnbench.views.compare import Pair
    from attnbench.views.groups import Group


FEWEST_POINTS = 3
"""With fewer lengths, a plot says less than the table."""
MOST_ROWS = 30
"""With more cells than this, the answer has a row for each implementation instead of each cell."""


def show(run: RunFile, baseline: str | None = None) -> View:
    """Show one run; speed-ups are by default over the choice of :func:`baseline_of`.

    Raises:
        CompareError: the run has no implementation of the baseline's name.
    """
    cells = cells_of(run)
    over = baseline_of(run.header, cells, baseline)
    chosen = None if over is None else over.name
    pairs = _pairs(run, cells, chosen)
    rows = cell_rows(cells, pairs, chosen)
    grouping = group_cells(cells)
    blocks: list[Block] = [
        Heading(text=f"{run.header.scenario_name}, run {run.header.run_id}", level=2 if run.machine else 1),
        *(Paragraph(text=sentence) for sentence in run_sentences(run, grouping.groups, pairs)),
        *(Paragraph(text=line) for line in summary_lines(run, cells)),
    ]
    if grouping.common:
        blocks.append(Paragraph(text=f"All cases: {grouping.common}"))
    nowhere = _never_ran(cells)
    if nowhere:
        blocks.append(Paragraph(text=f"Ran in no case: {listing(nowhere)}; the reasons are at the end."))
    for group in grouping.groups:
        present = [rows[cell.key] for cell in group.cells if cell.implementation not in nowhere]
        blocks += _group_blocks(group, present, chosen)
    failures = columns.reasons(cells)
    if failures.rows:
        blocks += [Heading(text="Why cells are not ok"), failures]
    return View(blocks=blocks, rows=sorted(rows.values(), key=_place), facts=_facts(run, cells, chosen, failures.rows))


def _place(row: Row) -> tuple[object, ...]:
    """Return the sort key of rows in a spreadsheet: similar cases by length, and within each case the fastest first."""
    kind = (row["device"], row["operator"], row["mode"], row["dtype"], row["mask"])
    time_ns = row["time_median_ns"]
    return (
        *kind,
        row["seqlen_kv"],
        row["seqlen_q"],
        row["case_id"],
        time_ns is None,
        time_ns or 0,
        row["implementation"],
    )


def answer(run: RunFile) -> View:
    """Return the view that ends a run: a table, fastest first, and one or more sentences."""
    cells = cells_of(run)
    over = baseline_of(run.header, cells)
    name = None if over is None else over.name
    pairs = _pairs(run, cells, name)
    rows = cell_rows(cells, pairs, name)
    groups = group_cells(cells).groups
    blocks: list[Block] = [Paragraph(text=sentence) for sentence in noise_sentences(run, cells)]
    if sum(cell.status not in NEVER_RAN for cell in cells) > MOST_ROWS:
        blocks.append(summary_table(groups, pairs, name))
    else:
        for group in groups:
            tables = _cell_tables(group, [rows[cell.key] for cell in group.cells], name, more=[columns.HELD])
            blocks += [Heading(text=group.label)] if group.label and tables else []
            blocks += tables
    sentences = run_sentences(run, groups, pairs)
    blocks += [Paragraph(text=sentence) for sentence in sentences]
    facts = {"kind": "answer", "baseline": name, "sentences": sentences}
    return View(blocks=blocks, rows=list(rows.values()), facts=facts)


def _pairs(run: RunFile, cells: Sequence[CellResult], baseline: str | None) -> Sequence[Pair]:
    return compare_implementations(run, baseline, cells=cells).pairs if baseline else ()


def runs_view(title: str, runs: Sequence[RunFile]) -> View:
    """Summarize several runs in a few sentences each, under a title."""
    blocks: list[Block] = [Heading(text=title, level=1)]
    for run in (machine for file in runs for machine in by_machine(file)):
        blocks += [Heading(text=run.name), *(Paragraph(text=line) for line in summary_lines(run, cells_of(run)))]
    return View(blocks=blocks, rows=[], facts={})


def cell_rows(cells: Iterable[CellResult], pairs: Iterable[Pair], baseline: str | None) -> dict[CellKey, Row]:
    """Return the flat values of each cell, with its speed-up over the baseline if both have a time."""
    gains = {pair.subject.key: pair.speedup for pair in pairs}
    return {
        cell.key: {**cell.numbers(), "baseline": baseline, **as_fields("speedup", gains.get(cell.key))}
        for cell in cells
    }


def summary_lines(run: RunFile, cells: Sequence[CellResult]) -> list[str]:
    """Return sentences on the run: command, machine, outcome, warnings."""
    header = run.header
    machine = str(header.environment.get("cpu_model") or "unknown CPU")
    where = f"{', '.join([machine, *header.gpus])}; devices {', '.join(header.devices)}"
    checking = checking_sentence(footer.shares for footer in run.footers)
    processes = count(header.replicates, "process", "processes")
    return [
        f"{header.created_at}, attnbench {header.attnbench_version}: {header.command_line}",
        f"{where}; {count(header.threads, 'thread')}, {processes} for each cell",
        f"{count(len(cells), 'cell')}: {status_counts(cells)}",
        *([checking[:1].upper() + checking[1:]] if checking else []),
        *run.warnings,
    ]


def status_counts(cells: Iterable[CellResult]) -> str:
    """Return the number of cells with each status as text: ok first, then by frequency."""
    counts = collections.Counter(cell.status for cell in cells)
    ordered = sorted(counts.items(), key=lambda item: (item[0] != "ok", -item[1], item[0]))
    return ", ".join(f"{n:,} {status}" for status, n in ordered) or "none"


def _never_ran(cells: Iterable[CellResult]) -> list[str]:
    """Return the implementations without any cell that was tried."""
    by_name = grouped(cells, lambda cell: cell.implementation)
    return sorted(name for name, own in by_name.items() if all(cell.status in NEVER_RAN for cell in own))


def _group_blocks(group: Group, rows: Sequence[Row], baseline: str | None) -> list[Block]:
    """Return a group's plots and its table, and a line for the cells that did not run."""
    blocks: list[Block] = [Heading(text=group.label)] if group.label else []
    blocks += [*_plots(group), *_cell_tables(group, rows, baseline, more=[columns.HELD])]
    left_out = [row for row in rows if row["status"] in NEVER_RAN]
    if left_out:
        alike = grouped(left_out, lambda row: (row["implementation"], row["status"]))
        said = [_left_out(group, *who, [row["seqlen_kv"] for row in found]) for who, found in alike.items()]
        blocks.append(Paragraph(text=f"Not run: {'; '.join(said)}."))
    return blocks


def _cell_tables(group: Group, rows: Sequence[Row], baseline: str | None, more: Sequence[Column] = ()) -> list[Table]:
    """Return the cells that ran as a table, fastest first at each length; no table if none ran."""
    ran = [{**row, "length": row["seqlen_kv"]} for row in rows if row["status"] not in NEVER_RAN]
    ran.sort(key=lambda row: (row["length"], row["time_median_ns"] is None, row["time_median_ns"] or 0))
    shown = [columns.length_column(group.axis), columns.IMPLEMENTATION, columns.STATUS, columns.TIME, columns.INTERVAL]
    shown += columns.filled([columns.TOKENS], ran)
    shown += [columns.speedup_column(baseline)] if baseline and any(row["speedup"] for row in ran) else []
    shown += [columns.MEMORY, columns.ERROR, *columns.filled([columns.QUANTISATION, *more], ran)]
    return [Table(columns=shown, rows=ran)] if ran else []


def _plots(group: Group) -> list[Block]:
    """Plot time and memory of a group over its lengths, if there are at least three."""
    found: list[Block] = []
    for noun, name, unit in (("time", "time_median_ns", duration), ("peak memory", "memory_peak_bytes", size)):
        curves: dict[str, list[tuple[int, float]]] = {}
        for cell in group.cells:
            if value := getattr(cell.metrics, name):
                curves.setdefault(cell.implementation, []).append((cell.case.seqlen_kv, value))
        if len({tokens for points in curves.values() for tokens, _ in points}) >= FEWEST_POINTS:
            title = f"{noun} of one call over {group.axis}, both logarithmic"
            found.append(Plot(title=title, text=log_plot(curves, functools.partial(unit, digits=2))))
    return found


def _left_out(group: Group, implementation: str, status: str, lengths: list[int]) -> str:
    where = "" if len(lengths) == len(group.lengths) else f" at {listing([length(n) for n in lengths])}"
    return f"{implementation} ({status}{where})"


def _facts(
    run: RunFile, cells: Sequence[CellResult], baseline: str | None, failures: Sequence[Row]
) -> dict[str, object]:
    header = run.header
    return {
        "kind": "show",
        "path": run.path,
        "run_id": header.run_id,
        "scenario": header.scenario_name,
        "created_at": header.created_at,
        "machine_key": header.machine_key,
        "baseline": baseline,
        "cells_planned": header.cells_planned,
        "counts": dict(collections.Counter(cell.status for cell in cells)),
        "not_ok": list(failures),
        "warnings": run.warnings,
    }
