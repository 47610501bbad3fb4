"""Views as data: blocks that can be printed in a terminal, as Markdown and on a page."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from attnbench.units import common_unit, number, shown
from attnbench.untrusted.markdown import code, fence, inline, paragraph
from attnbench.untrusted.spreadsheet import csv_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.units import Unit

_IN_ADDRESSES = ":/?#@!$&*+,;=%~"

Row = dict[str, Any]
"""Raw values of one row of a table, units in the names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heading:
    """A title; level 1 is that of the whole view."""

    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paragraph:
    """One or more plain sentences."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its title, and the text that a row has in it."""

    title: str
    text: Callable[[Row], str]
    is_number: bool = False
    is_code: bool = False
    is_implementation: bool = False
    is_status: bool = False
    footnote: str = ""
    """The meaning of a star at the end of a cell's text."""
    spare: int = 0
    """If above 0, a narrow terminal can leave the column out and name it instead, the highest number first."""
    metric: str = ""
    """Name of the metric that the column shows; empty for other columns."""
    amount: Callable[[Row], float | None] | None = None
    """Returns the length of the bar behind a cell's text, on pages that draw bars."""
    fields: tuple[str, ...] = ()
    """The row's fields that the column shows: a single number, or both ends of an interval."""
    unit: Unit = "text"
    """The unit of the fields."""
    link: Callable[[Row], str | None] | None = None
    """Returns the link of a cell, for a page and Markdown."""


def column(title: str, field: str = "", *, unit: Unit = "text", **rest: Any) -> Column:
    """Return a column that shows a field of the rows in a unit.

    Args:
        title: the column's title.
        field: the field; by default the title.
        unit: the unit of the field.
        rest: further attributes of the column.
    """
    name = field or title
    rest.setdefault("is_number", unit not in {"text", "yes/no", "index"})
    return Column(title=title, text=lambda row: shown(row[name], unit), fields=(name,), unit=unit, **rest)


def in_one_unit(column: Column, rows: Sequence[Row]) -> Column:
    """Return the column with durations, sizes or rates all in one unit, named in its title; others are unchanged."""
    if column.unit not in {"ns", "bytes", "TFLOP/s"}:
        return column
    values = [value for row in rows for field in column.fields if isinstance(value := row[field], int | float)]
    if not values:
        return column
    size, name = common_unit(values, column.unit)
    digits = 3 if len(column.fields) == 1 else 4  # intervals are narrow

    def text(row: Row) -> str:
        ends = [row[field] for field in column.fields]
        if not all(isinstance(end, int | float) for end in ends):
            return column.text(row)
        star = "*" if column.footnote and column.text(row).endswith("*") else ""
        shown_ends = [
            f"{end:,.0f}" if size == 1 and column.unit == "bytes" else number(end / size, digits) for end in ends
        ]
        return " … ".join(shown_ends) + star

    return dataclasses.replace(column, title=f"{column.title}, {name}", text=text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of raw values, and the columns that show them."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""

    @property
    def notes(self) -> list[str]:
        """The footnotes of its columns that have a star in some row."""
        return footnotes(self.columns, self.rows)


def footnotes(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """Return the footnotes of the columns that have a star in some row."""
    return [
        column.footnote for column in columns if column.footnote and any(column.text(row).endswith("*") for row in rows)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture made of characters, with a title."""

    title: str
    text: str


Block = Heading | Paragraph | Table | Plot


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """An answer: blocks for people, rows for spreadsheets, facts for programs."""

    blocks: Sequence[Block]
    rows: Sequence[Row]
    """One flat row for each cell; these are the rows of CSV."""
    facts: Mapping[str, Any]
    """JSON-ready values that JSON holds in addition to the rows."""


def markdown(view: View) -> str:
    """Format a view as GitHub-flavoured Markdown without HTML."""
    return "\n".join(markdown_block(block) for block in view.blocks)


def markdown_block(block: Block) -> str:
    """Format one block as Markdown that ends with a newline."""
    if isinstance(block, Heading):
        return f"{'#' * block.level} {inline(block.text)}\n"
    if isinstance(block, Paragraph):
        return f"{paragraph(block.text)}\n"
    if isinstance(block, Plot):
        ticks = fence(block.text)
        return f"{paragraph(block.title)}\n\n{ticks}\n{block.text}\n{ticks}\n"
    lines = [f"{paragraph(block.title)}\n"] if block.title else []
    lines.append(_line([inline(column.title) for column in block.columns]))
    lines.append(_line(["---:" if column.is_number else "---" for column in block.columns]))
    lines += [_line([_cell(column, row) for column in block.columns]) for row in block.rows]
    lines += [f"\n{paragraph(note)}" for note in block.notes]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(column: Column, row: Row) -> str:
    text = column.text(row)
    shown_text = code(text) if column.is_code else inline(text)
    link = column.link(row) if column.link else None
    return f"[{shown_text}]({quote(link, safe=_IN_ADDRESSES)})" if link else shown_text


def as_csv(view: View) -> str:
    """Format the rows as CSV: ``None`` is empty, lists are JSON, and no text is a formula."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in view.rows for name in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for row in view.rows:
        writer.writerow({name: _csv_value(value) for name, value in row.items()})
    return out.getvalue()


def _csv_value(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | tuple) else csv_cell(value)


def as_json(view: View) -> str:
    """Format facts and rows as one JSON object."""
    return json.dumps({**view.facts, "rows": list(view.rows)}, indent=2, allow_nan=False) + "\n"
