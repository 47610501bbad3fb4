"""A report as one HTML page, and as Markdown with its charts beside it."""

from __future__ import annotations

import html
import itertools
import re
from typing import TYPE_CHECKING, Any

from attnbench.views.document import Heading, Paragraph, markdown_block
from attnbench.views.report.content import Details, Lead
from attnbench.views.report.figures import Figure
from attnbench.views.report.style import DARK, LIGHT, SERIES_DARK, SERIES_LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.report.content import Block, Report

_SIZE = re.compile(r'<svg ([^>]*?)width="(\d+)" height="(\d+)"')


def html_page(report: Report) -> str:
    """The whole page: no script, nothing that is loaded from elsewhere."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("attnbench.views"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(kind=_kind, on_page=svg_on_page, figures_together=_figures_together)
    return environment.get_template("report.html").render(
        report=report,
        marks=report.marks,
        roles=list(LIGHT),
        themes={"light": {**LIGHT, **_series(SERIES_LIGHT)}, "dark": {**DARK, **_series(SERIES_DARK)}},
    )


def _kind(block: Block) -> str:
    """``heading``, ``paragraph``, ``table``, ``figure``, ``details`` or ``lead``."""
    return type(block).__name__.lower()


def _figures_together(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Neighbouring figures stand side by side where the page is wide."""
    parts = itertools.groupby(blocks, key=lambda block: isinstance(block, Figure))
    return [{"are_figures": are_figures, "blocks": list(part)} for are_figures, part in parts]


def _series(colours: tuple[str, ...]) -> dict[str, str]:
    return {f"series-{index}": colour for index, colour in enumerate(colours)}


def svg_on_page(figure: Figure) -> str:
    """The chart as the page holds it: it takes the width that there is, and says what it shows."""
    from markupsafe import Markup

    said = f'<svg role="img" aria-label="{html.escape(figure.alt)}" '
    drawn = _SIZE.sub(lambda match: f"{said}{match[1]}", figure.svg, count=1)
    return Markup(drawn)  # noqa: S704 - Vega drew it, and has escaped the names in it


def svg_file(figure: Figure) -> str:
    """The chart as a file of its own: on the light theme's ground, because an image does not know its page's theme."""
    title = f"<title>{html.escape(figure.alt)}</title>"
    ground = f'<rect width="100%" height="100%" fill="{LIGHT["page"]}"/>'
    return re.sub(r"(<svg [^>]*>)", lambda match: f"{match[1]}{title}{ground}", figure.svg, count=1)


def markdown_page(report: Report) -> str:
    """The report in GitHub's Markdown; figures name the files that lie beside it."""
    parts = [markdown_block(Heading(text=report.title, level=1)), markdown_block(Paragraph(text=report.subtitle))]
    for section in report.sections:
        parts.append(f'<a id="{section.anchor}"></a>\n')
        parts.append(markdown_block(Heading(text=section.title)))
        parts += [_markdown(block) for block in section.blocks]
    return "\n".join(parts)


def _markdown(block: Block) -> str:
    if isinstance(block, Figure):
        caption = markdown_block(Heading(text=block.title, level=4))
        image = f"![{block.alt.replace('[', '(').replace(']', ')')}]({block.stem}.svg)\n"
        note = [markdown_block(Paragraph(text=block.note))] if block.note else []
        return "\n".join([caption, image, *note, _folded("Numbers", markdown_block(block.table))])
    if isinstance(block, Details):
        return _folded(block.summary, "\n".join(markdown_block(inner) for inner in block.blocks))
    if isinstance(block, Lead):
        return f"**{markdown_block(Paragraph(text=block.text)).strip()}**\n"
    return markdown_block(block)


def _folded(summary: str, inside: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>\n\n{inside}\n</details>\n"
