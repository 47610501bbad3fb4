"""Views in a terminal: however narrow it is, no number of a table is wrapped or cut off."""

from __future__ import annotations

import dataclasses
import io
import sys
import textwrap
from typing import TYPE_CHECKING

from attnbench.views.document import Heading, Paragraph, Plot, footnotes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table as RichTable

    from attnbench.views.document import Column, Table, View

_STATUS_STYLES = {
    "ok": "green",
    "wrong": "bold red",
    "out_of_memory": "red",
    "timeout": "red",
    "crashed": "red",
    "error": "red",
}


def terminal(view: View) -> RenderableType:
    """Convert a view for rich's console: ``console.print(terminal(view))``."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = []
    for block in view.blocks:
        if isinstance(block, Heading):
            parts.append(Padding(Text(block.text, style="bold"), (1 if parts else 0, 0, 0, 0)))
        elif isinstance(block, Plot):
            parts.append(Padding(Text(f"{block.title}\n{block.text}", no_wrap=True), (0, 0, 1, 0)))
        else:
            parts.append(Text(block.text) if isinstance(block, Paragraph) else Fitted(block))
    return Group(*parts)


def as_text(view: View) -> str:
    """Render a view as text without colours, as wide as the terminal, or 120 columns if there is none."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        console.print(terminal(view))
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A table that drops spare columns if the terminal is too narrow for them, and names these below."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement
        from rich.text import Text

        columns, left_out = list(self.table.columns), []
        wide = options.update(max_width=10_000)
        while Measurement.get(console, wide, _drawn(self.table, columns)).minimum > options.max_width:
            spare = max(columns, key=lambda column: column.spare)
            if spare.spare == 0:
                break
            columns.remove(spare)
            left_out.append(spare.title)
        yield _drawn(self.table, columns)
        yield from (Text(note) for note in footnotes(columns, self.table.rows))
        if left_out:
            yield Text(f"Not shown in {options.max_width} columns: {', '.join(left_out)}.", style="dim")


def _drawn(table: Table, columns: Sequence[Column]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        title=Text(table.title, style="table.title") if table.title else None,  # a plain string would be rich's markup
        title_justify="left",
    )
    for column in columns:
        texts = [column.text(row) for row in table.rows]
        whole = column.is_number or column.is_implementation
        width = _width(column.title, texts)
        drawn.add_column(
            Text("\n".join(textwrap.wrap(column.title, width)) if whole else column.title),
            justify="right" if column.is_number else "left",
            no_wrap=whole,
            overflow="fold",
            min_width=width if whole else None,
        )
    for row in table.rows:
        texts = [column.text(row) for column in columns]
        styles = [_STATUS_STYLES.get(text, "") if c.is_status else "" for c, text in zip(columns, texts, strict=True)]
        drawn.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
    return drawn


def _width(title: str, texts: Sequence[str]) -> int:
    """Return the width of the widest cell or of the title's longest word, as a title can take several lines."""
    from rich.cells import cell_len

    return max(cell_len(text) for text in (*texts, *title.split()))
