"""A report as one HTML page, and as Markdown with separate chart files."""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
import re
from typing import TYPE_CHECKING

from attnbench.units import count
from attnbench.untrusted.markdown import inline
from attnbench.views.document import Heading, Paragraph, Table, column, in_one_unit, markdown_block
from attnbench.views.report.blocks import (
    Budget,
    Contradiction,
    Details,
    Embedded,
    Explorer,
    Figure,
    HeatMap,
    Lead,
    Part,
    Picture,
    Strips,
    WinnerMap,
)
from attnbench.views.report.charts.style import DARK, LIGHT, SERIES_DARK, SERIES_LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.views.document import Column, Row
    from attnbench.views.report.blocks import Block, MapCell, ReportPage

_SIZE = re.compile(r'<svg ([^>]*?)width="(\d+)" height="(\d+)"')
STRIP_WIDTH, STRIP_HEIGHT = 160, 22


def html_page(report: ReportPage, vega: str = "") -> str:
    """Render the whole page, which loads nothing from elsewhere.

    Args:
        report: the content.
        vega: the JavaScript that makes charts interactive; without it they are static.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("attnbench.views.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        kind=_kind,
        on_page=svg_on_page,
        figures_together=_figures_together,
        as_json=json_on_page,
        strip=strip_path,
        bar=_bar,
        in_units=_in_units,
    )
    return environment.get_template("report.html").render(
        report=report,
        marks=report.marks,
        themes={"light": {**LIGHT, **_series(SERIES_LIGHT)}, "dark": {**DARK, **_series(SERIES_DARK)}},
        drawn={
            name: {"colour": mark.colour, "shape": mark.shape, "path": mark.path, "series": mark.series}
            for name, mark in report.marks.items()
        },
        strip_size=(STRIP_WIDTH, STRIP_HEIGHT),
        vega=Markup(vega),  # noqa: S704 - a library of JavaScript, and not of the run's making
    )


def json_on_page(value: object) -> str:
    """Return JSON for a script element, escaped so that no text in it can end the element."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704 - escaped just so


def _kind(block: Block) -> str:
    """The block's class in lower case, such as ``heading`` or ``winnermap``."""
    return type(block).__name__.lower()


def _figures_together(blocks: Sequence[Block]) -> list[tuple[bool, list[Block]]]:
    """Group neighbouring figures, which are placed side by side on a wide page."""
    parts = itertools.groupby(blocks, key=lambda block: isinstance(block, Figure | Picture))
    return [(are_figures, list(part)) for are_figures, part in parts]


def _in_units(table: Table) -> Table:
    """Return the table with one unit in each column."""
    return dataclasses.replace(table, columns=[in_one_unit(column, table.rows) for column in table.columns])


def _bar(row: Row, column: Column, rows: Sequence[Row]) -> str:
    """Return the length of a bar, in percent of the longest in its column."""
    assert column.amount is not None
    longest = max((column.amount(one) or 0.0 for one in rows), default=0.0)
    return f"{100 * (column.amount(row) or 0.0) / longest:.1f}" if longest else "0"


def _series(colours: tuple[str, ...]) -> dict[str, str]:
    return {f"series-{index}": colour for index, colour in enumerate(colours)}


def strip_path(samples: Sequence[float]) -> str:
    """Return an SVG path of short strokes, one for each sample in order, the largest at the top."""
    low, high = min(samples), max(samples)
    across = (STRIP_WIDTH - 4) / max(1, len(samples) - 1)
    tall = STRIP_HEIGHT - 6
    level = [0.5 if high == low else (sample - low) / (high - low) for sample in samples]
    return "".join(f"M{2 + i * across:.1f} {3 + tall * (1 - y):.1f}h1.5" for i, y in enumerate(level))


def svg_on_page(figure: Figure | Picture) -> str:
    """Return the chart as embedded in the page: as wide as there is room, with its description."""
    from markupsafe import Markup

    said = f'<svg role="img" aria-label="{html.escape(figure.alt)}" '
    drawn = _SIZE.sub(lambda match: f"{said}{match[1]}", drawn_svg(figure), count=1)
    return Markup(drawn)  # noqa: S704 - Vega drew it, and has escaped the names in it; a matrix has none


def drawn_svg(figure: Figure | Picture) -> str:
    """Return the SVG as drawn."""
    return figure.svg if isinstance(figure, Picture) else figure.drawing.svg


def svg_file(figure: Figure | Picture) -> str:
    """Return the chart as a standalone SVG file, on the light theme's background.

    An image does not know its page's theme.
    """
    title = f"<title>{html.escape(figure.alt)}</title>"
    ground = f'<rect width="100%" height="100%" fill="{LIGHT["page"]}"/>'
    return re.sub(r"(<svg [^>]*>)", lambda match: f"{match[1]}{title}{ground}", drawn_svg(figure), count=1)


def pictures_of(blocks: Sequence[Block]) -> list[Figure | Picture]:
    """Return all figures and pictures in blocks, including nested ones."""
    found: list[Figure | Picture] = []
    for block in blocks:
        if isinstance(block, Figure | Picture):
            found.append(block)
        elif isinstance(block, Details | Part):
            found += pictures_of(block.blocks)
    return found


def markdown_page(report: ReportPage) -> str:
    """Render the report as GitHub-flavoured Markdown; figures refer to files next to it.

    The first section is shown whole; of each other section only the leading sentences are, and the rest is folded.
    """
    parts = [markdown_block(Heading(text=report.title, level=1)), markdown_block(Paragraph(text=report.subtitle))]
    for section in report.sections:
        parts.append(f'<a id="{section.anchor}"></a>\n')
        parts.append(markdown_block(Heading(text=section.title)))
        leading: Iterable[Block] = section.blocks
        if section is not report.sections[0]:
            leading = itertools.takewhile(lambda block: isinstance(block, Lead | Contradiction), section.blocks)
        shown = [_markdown(block) for block in leading]
        rest = "\n".join(part for block in section.blocks[len(shown) :] if (part := _markdown(block)))
        parts += [*shown, _folded("Charts and tables", rest) if rest else ""]
    return "\n".join(part for part in parts if part)


def _markdown(block: Block) -> str:
    if isinstance(block, Figure | Picture):
        caption = markdown_block(Heading(text=block.title, level=4))
        image = f"![{inline(block.alt)}]({block.stem}.svg)\n"
        said = "" if isinstance(block, Picture) else block.note
        note = [markdown_block(Paragraph(text=said))] if said else []
        return "\n".join([caption, image, *note, _folded("Numbers", markdown_block(_in_units(block.table)))])
    if isinstance(block, Embedded):
        return f"[{inline(block.title)}]({block.file})\n"
    if isinstance(block, Details):
        inside = "\n".join(part for part in map(_markdown, block.blocks) if part)
        return _folded(block.summary, inside) if inside else ""
    if isinstance(block, Part):
        return "\n".join(map(_markdown, block.blocks))
    if isinstance(block, Lead | Contradiction):
        return f"**{markdown_block(Paragraph(text=block.text)).strip()}**\n"
    if isinstance(block, WinnerMap):
        table = markdown_block(_map_table(block))
        more = f"{count(block.left_out, 'more row')}: data/winners.csv has each case." if block.left_out else ""
        return "\n".join([table, markdown_block(Paragraph(text=more))]) if more else table
    if isinstance(block, HeatMap):
        return markdown_block(_heat_table(block))
    if isinstance(block, Strips | Budget):
        return ""  # pictures of single samples, and a field to type in
    if isinstance(block, Explorer):
        return markdown_block(Paragraph(text=block.instead))
    return markdown_block(_in_units(block) if isinstance(block, Table) else block)


def _folded(summary: str, inside: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>\n\n{inside}\n</details>\n"


def _map_table(block: WinnerMap) -> Table:
    rows = [
        {
            "cases": row.label,
            **{
                title: "" if cell is None else _field(cell)
                for title, cell in zip(block.columns, row.cells, strict=True)
            },
        }
        for row in block.rows
    ]
    first = column(f"cases \\ {block.corner}", "cases")
    return Table(columns=[first, *map(column, block.columns)], rows=rows)


def _field(cell: MapCell) -> str:
    ties = (f"≈ {name} {tie}".strip() for name, tie in itertools.zip_longest(cell.names[1:], cell.ties, fillvalue=""))
    return " ".join(part for part in (*cell.names[:1], *ties, cell.lead) if part)


def _heat_table(block: HeatMap) -> Table:
    rows = [
        {
            "implementation": name,
            **{title: "" if cell is None else cell.text for title, cell in zip(block.columns, cells, strict=True)},
        }
        for name, cells in block.rows
    ]
    first = column(f"implementation \\ {block.corner}", "implementation")
    numbers = [column(title, is_number=True) for title in block.columns]
    return Table(columns=[first, *numbers], rows=rows, title=block.title)
