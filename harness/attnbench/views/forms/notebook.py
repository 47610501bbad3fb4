"""Views as HTML for a notebook: tables, and charts as images if the extra ``report`` is installed."""

from __future__ import annotations

import base64
import dataclasses
import html as markup
import importlib.util
import json
from typing import TYPE_CHECKING

from attnbench.views.document import Heading, Paragraph, Plot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.store.reader import RunFile
    from attnbench.views.document import Block, Table, View

MOST_CHARTS = 4
MOST_ROWS = 60
"""The most rows of a table; the data frame has all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """A chart as SVG."""

    title: str
    alt: str
    data: bytes


def html(view: View, images: Sequence[Image] = ()) -> str:
    """Format a view as HTML; images, if any, replace plots that are made of characters."""
    heading, *rest = view.blocks
    blocks = [block for block in rest if not (images and isinstance(block, Plot))]
    return "\n".join([_block(heading), figures(images), *map(_block, blocks)])


def figures(images: Sequence[Image]) -> str:
    """Return images side by side as HTML; empty if there are none."""
    return f"<div>{''.join(map(_image, images))}</div>" if images else ""


def time_charts(runs: Sequence[RunFile]) -> list[Image]:
    """Draw time over sequence length for the first few groups of cases; returns none without the extra ``report``."""
    if importlib.util.find_spec("vl_convert") is None:
        return []
    from attnbench.views.cells import cells_of
    from attnbench.views.groups import group_cells
    from attnbench.views.report.charts.marks import marks_of
    from attnbench.views.report.figures import time_figure
    from attnbench.views.report.page import svg_file

    found: list[Image] = []
    for run in runs:
        cells = cells_of(run)
        marks = marks_of(cell.implementation for cell in cells)
        grouping = group_cells(cells)
        for group in grouping.groups:
            if len(found) == MOST_CHARTS:
                return found
            title = group.label or grouping.common
            figure = time_figure("time", f"{run.path}: {title}" if len(runs) > 1 else title, group, marks)
            if figure is not None:
                data = svg_file(figure).encode()
                found.append(Image(title=figure.title, alt=figure.alt, data=data))
    return found


def pictures_in(folder: Path) -> list[Image]:
    """Read the images of the mask and the attention weights that an inspection wrote to its folder."""
    facts = json.loads((folder / "inspection.json").read_text(encoding="utf-8"))
    titles = {"mask": f"mask {facts['case']['mask']}: queries down, keys across"}
    titles |= {f"weights-{head}": f"attention weights of head {head}" for head in facts["heads"]}
    return [
        Image(title=title, alt=title, data=(folder / f"{stem}.svg").read_bytes())
        for stem, title in list(titles.items())[: 2 * MOST_CHARTS]
    ]


def _image(image: Image) -> str:
    source = f"data:image/svg+xml;base64,{base64.b64encode(image.data).decode()}"
    return (
        f'<figure style="display: inline-block; margin: 0 1em 1em 0"><img alt="{markup.escape(image.alt)}"'
        f' src="{source}"><figcaption>{markup.escape(image.title)}</figcaption></figure>'
    )


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        level = min(block.level + 2, 6)
        return f"<h{level}>{markup.escape(block.text)}</h{level}>"
    if isinstance(block, Paragraph):
        return f"<p>{markup.escape(block.text)}</p>"
    if isinstance(block, Plot):
        return f"<pre>{markup.escape(block.title)}\n{markup.escape(block.text)}</pre>"
    return _table(block)


def _table(table: Table) -> str:
    head = "".join(f"<th>{markup.escape(column.title)}</th>" for column in table.columns)
    lines = [
        "<tr>" + "".join(_cell(column.text(row), is_number=column.is_number) for column in table.columns) + "</tr>"
        for row in table.rows[:MOST_ROWS]
    ]
    left_out = len(table.rows) - len(lines)
    notes = [*table.notes, *([f"{left_out} more rows are in the frame."] if left_out else [])]
    caption = f"<caption>{markup.escape(table.title)}</caption>" if table.title else ""
    said = "".join(f"<p>{markup.escape(note)}</p>" for note in notes)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{said}"


def _cell(text: str, *, is_number: bool) -> str:
    return f'<td style="text-align: {"right" if is_number else "left"}">{markup.escape(text)}</td>'
