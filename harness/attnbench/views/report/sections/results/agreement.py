"""The section on agreement: the distance of each implementation's output from the oracle's."""

from __future__ import annotations

import itertools
import re
import statistics
from importlib import resources
from typing import TYPE_CHECKING

from attnbench.cases.choices import CHOICES
from attnbench.grouping import grouped
from attnbench.stages.agreement import JUDGED_TENSORS
from attnbench.units import count, length, number
from attnbench.views import columns
from attnbench.views.document import Paragraph, Row, Table, column
from attnbench.views.report.blocks import Block, Details, Export, Figure, HeatCell, HeatMap, Lead, Section
from attnbench.views.report.charts import charts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnbench.stages.agreement import TensorError
    from attnbench.views.cells import CellResult
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.charts.marks import Mark
    from attnbench.views.report.material import Material

MOST_DOTS = 60
"""The most errors of an implementation and dtype that are drawn, evenly spaced in order of size, with the largest."""
KNOWN = "known-disagreements.md"
"""The file next to the implementations that lists known errors of released libraries."""
_NOTICED = ("noticed_row_error", "noticed_weight_share", "noticed_dropped_keys")
_LEVELS = (0.1, 0.3, 0.6, 1.0)


def section(material: Material) -> Section:
    """Return errors over budget by implementation and by length, the worst elements, and determinism."""
    blocks = _blocks(material.cells, material.marks)
    return Section(anchor="agreement", title="Agreement", blocks=blocks, exports=[_numbers(material.sources)])


def _blocks(cells: Sequence[CellResult], marks: Mapping[str, Mark]) -> list[Block]:
    table = error_table(cells)
    if not table.rows:
        return [Paragraph(text="No output was judged.")]
    blocks: list[Block] = [
        Lead(text=agreement_sentence(table)),
        Paragraph(
            text="Outputs are judged against an answer in float64. The budget follows from the dtype; "
            "up to 1 an error is what rounding explains, above 1 the cell is wrong and its time does not count."
        ),
        *_roomier(cells),
        table,
    ]
    for index, dtype in enumerate(_dtypes(cells)):
        of_dtype = [cell for cell in cells if cell.case.dtype == dtype]
        figure = error_figure(f"agreement-{index + 1}", dtype, of_dtype, marks)
        blocks += [figure] if figure else []
    blocks += [_by_length(index, dtype, cells) for index, dtype in enumerate(_dtypes(cells))]
    blocks.append(Details(summary="Worst element of each tensor", blocks=[_worst_elements(cells)]))
    blocks.append(_determinism(cells))
    known = _known_disagreements({cell.implementation for cell in cells})
    if known is not None:
        summary = f"Known disagreements of what was run ({len(known.rows)})"
        blocks.append(Details(summary=summary, blocks=[known]))
    return blocks


def _roomier(cells: Sequence[CellResult]) -> list[Block]:
    """Name implementations whose budgets allow for stored scores."""
    names = sorted(
        {
            cell.implementation
            for cell in cells
            if cell.metrics.stores_scores and cell.case.dtype in ("float16", "bfloat16")
        }
    )
    if not names:
        return []
    verb = "declares that it stores" if len(names) == 1 else "declare that they store"
    return [Paragraph(text=f"{', '.join(names)} {verb} scores in the inputs' dtype: the budget there is wider.")]


def _numbers(sources: Sequence[ReportedRun]) -> Export:
    """Return a row for each judged tensor of each cell."""
    return Export(
        stem="agreement",
        rows=[
            {
                "run": source.run.name,
                "case_id": cell.case_id,
                "case": cell.case.label(),
                "implementation": cell.implementation,
                "device": cell.device,
                "dtype": cell.case.dtype,
                "seqlen_kv": cell.case.seqlen_kv,
                "status": cell.status,
                "tensor": error.tensor,
                "error_ratio": error.ratio,
                "worst_element": error.worst,
            }
            for source in sources
            for cell in source.cells
            for error in cell.errors
        ],
    )


def _dtypes(cells: Iterable[CellResult]) -> list[str]:
    present = {cell.case.dtype for cell in cells if cell.errors}
    return [name for name in CHOICES["dtype"] if name in present]


def agreement_sentence(table: Table) -> str:
    """Say how many cells are wrong, and name the worst error."""
    wrong, judged = sum(row["wrong"] for row in table.rows), sum(row["judged"] for row in table.rows)
    said = f"Of {count(judged, 'judged cell')}, {wrong or 'none'} {'are' if wrong > 1 else 'is'} wrong."
    known = [row for row in table.rows if row["worst"] is not None]
    if not known:
        return said
    worst = max(known, key=lambda row: row["worst"])
    where = f"{worst['implementation']} in {worst['dtype']}"
    return f"{said} The worst error is {number(worst['worst'])} of its budget: {where}."


def error_figure(stem: str, dtype: str, cells: Sequence[CellResult], marks: Mapping[str, Mark]) -> Figure | None:
    """Draw error over budget of all cells of a dtype; ``None`` if none was judged."""
    judged = [
        (cell.implementation, cell.error_ratio, cell.case.seqlen_kv) for cell in cells if cell.error_ratio is not None
    ]
    rows: list[Row] = [
        {"implementation": name, "value": ratio, "at": length(tokens), "text": number(ratio)}
        for of_name in grouped(judged, lambda one: one[0]).values()
        for name, ratio, tokens in _spread(of_name)
        if ratio
    ]
    if not rows:
        return None
    worst = max(rows, key=lambda row: row["value"])
    exact = any(ratio == 0 for _, ratio, _ in judged)
    return Figure(
        stem=stem,
        title=dtype,
        alt=f"Error over budget of {count(len(judged), 'judged cell')} in {dtype}, by implementation. The largest is "
        f"{number(worst['value'])}, of {worst['implementation']}; above 1 is wrong.",
        drawing=charts.errors(rows, marks),
        table=error_table(cells),
        note="Errors of exactly 0 cannot be drawn on a logarithmic axis." if exact else "",
        facets={"dtype": dtype},
    )


def error_table(cells: Iterable[CellResult]) -> Table:
    """Return the worst and the median error over budget for each implementation and dtype."""
    judged = [cell for cell in cells if cell.errors or cell.status == "wrong"]
    found = grouped(judged, lambda cell: (cell.implementation, cell.case.dtype))
    order = CHOICES["dtype"]
    rows = [_error_row(*key, found[key]) for key in sorted(found, key=lambda key: (order.index(key[1]), key[0]))]
    return Table(
        columns=[
            column("dtype"),
            columns.IMPLEMENTATION,
            column("judged", unit="count"),
            column("wrong", unit="count"),
            column("median error / budget", "median", unit="ratio"),
            column("worst", unit="ratio"),
            *map(columns.of_metric, _NOTICED),
        ],
        rows=rows,
    )


def _error_row(implementation: str, dtype: str, cells: Sequence[CellResult]) -> Row:
    ratios = [cell.error_ratio for cell in cells if cell.error_ratio is not None]
    return {
        "implementation": implementation,
        "dtype": dtype,
        "judged": len(cells),
        "wrong": sum(1 for cell in cells if cell.status == "wrong"),
        "median": statistics.median(ratios) if ratios else None,
        "worst": max(ratios, default=None),
        **{name: _median(cells, name) for name in _NOTICED},
    }


def _median(cells: Sequence[CellResult], name: str) -> float | None:
    found = [value for cell in cells if (value := getattr(cell.metrics, name)) is not None]
    return statistics.median(found) if found else None


def _by_length(index: int, dtype: str, cells: Sequence[CellResult]) -> HeatMap:
    """Return the worst error over budget of all tensors, by implementation and length."""
    worst: dict[tuple[str, int], tuple[float, str]] = {}
    for cell in cells:
        for error in cell.errors if cell.case.dtype == dtype else ():
            key = (cell.implementation, cell.case.seqlen_kv)
            worst[key] = max(worst.get(key, (0.0, "")), (error.ratio, error.tensor))
    lengths = sorted({tokens for _, tokens in worst})
    names = sorted({name for name, _ in worst})
    return HeatMap(
        stem=f"agreement-by-length-{index + 1}",
        title=f"{dtype}: worst error / budget",
        corner="seqlen_kv",
        lengths=tuple(lengths),
        rows=tuple((name, tuple(_ratio_cell(worst.get((name, n))) for n in lengths)) for name in names),
        facets={"dtype": dtype},
    )


def _ratio_cell(found: tuple[float, str] | None) -> HeatCell | None:
    if found is None:
        return None
    ratio, tensor = found
    level = sum(ratio > step for step in _LEVELS)
    return HeatCell(text=number(ratio, 2), level=-level, said=f"{tensor}: {number(ratio)} of its budget")


def _worst_elements(cells: Iterable[CellResult]) -> Table:
    """Return the largest error of each implementation, dtype and tensor, with its case and element."""
    worst: dict[tuple[str, str, str], tuple[TensorError, CellResult]] = {}
    for cell in cells:
        for error in cell.errors:
            key = (cell.case.dtype, cell.implementation, error.tensor)
            if key not in worst or error.ratio > worst[key][0].ratio:
                worst[key] = (error, cell)
    order = CHOICES["dtype"]
    ordered = sorted(worst, key=lambda key: (order.index(key[0]), key[1], JUDGED_TENSORS.index(key[2])))
    rows = [
        {
            "dtype": key[0],
            "implementation": key[1],
            "tensor": key[2],
            "ratio": worst[key][0].ratio,
            "where": worst[key][0].worst,
            "case": worst[key][1].case.label(),
        }
        for key in ordered
    ]
    return Table(
        columns=[
            column("dtype"),
            columns.IMPLEMENTATION,
            column("tensor"),
            column("worst error / budget", "ratio", unit="ratio"),
            column("at", "where", unit="index"),
            column("of the case", "case"),
        ],
        rows=rows,
    )


def _determinism(cells: Sequence[CellResult]) -> Block:
    """Name the implementations that returned different bits for equal inputs."""
    known = [cell for cell in cells if cell.metrics.deterministic is not None]
    if not known:
        return Paragraph(text="Whether calls repeat bit by bit was not recorded.")
    unsteady = grouped((cell for cell in known if not cell.metrics.deterministic), lambda cell: cell.implementation)
    if not unsteady:
        return Paragraph(text=f"All of {count(len(known), 'cell')} repeated their result bit by bit.")
    said = []
    for name, found in sorted(unsteady.items()):
        spreads = [cell.metrics.spread_rel for cell in found if cell.metrics.spread_rel is not None]
        how = f", by at most {number(max(spreads))} (RMS over RMS)" if spreads else ""
        said.append(f"{name} in {count(len(found), 'cell')}{how}")
    return Paragraph(text=f"Not deterministic, calls on equal inputs differed: {'; '.join(said)}.")


def _known_disagreements(implementations: set[str]) -> Table | None:
    """Return the rows of the list of known disagreements that name one of these implementations."""
    try:
        text = resources.files("attnbench.implementations").joinpath(KNOWN).read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError):
        return None
    lines = [line for line in text.splitlines() if line.startswith("|")]
    if len(lines) < 3:
        return None
    titles, *found = [[part.strip() for part in line.strip("|").split(" | ")] for line in (lines[0], *lines[2:])]
    rows = [
        dict(itertools.zip_longest(titles, map(_unmarked, parts), fillvalue=""))
        for parts in found
        if (named := re.findall(r"`([\w-]+/[\w-]+)`", parts[0])) and implementations & set(named)
    ]
    if not rows:
        return None
    return Table(columns=[column(title) for title in titles], rows=rows)


def _unmarked(text: str) -> str:
    """Convert a Markdown table cell to plain text."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text).replace("`", "").strip("| ")


def _spread(values: Sequence[tuple[str, float, int]]) -> list[tuple[str, float, int]]:
    """Return all values if they are few; else :data:`MOST_DOTS` of them, evenly spaced from least to largest."""
    ordered = sorted(values)
    if len(ordered) <= MOST_DOTS:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (MOST_DOTS - 1))] for i in range(MOST_DOTS)]
