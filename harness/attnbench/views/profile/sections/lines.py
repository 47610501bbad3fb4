"""Time by line of source: the hottest lines, and each source in its own order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.profiling.phases import TITLES
from attnbench.units import duration, number
from attnbench.views.document import Column, Heading, Paragraph, Table, column
from attnbench.views.profile.cases import titled
from attnbench.views.report.blocks import Details, Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.profiling.parts import LineTime
    from attnbench.views.document import Row
    from attnbench.views.profile.cases import ProfiledCase, ProfiledCell
    from attnbench.views.report.blocks import Block

_HOTTEST = 12
_HEAT = 12
"""Length of the hottest line's bar, in characters."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


def section(cases: Sequence[ProfiledCase]) -> Section | None:
    """Return the lines of all cells, or ``None`` if no cell has any."""
    blocks: list[Block] = []
    for title, one in titled(cases):
        if one.cell.lines:
            blocks += [Heading(text=title, level=3), *_cell(one)]
    if not blocks:
        return None
    said = "Self is time on the line itself, with callees what it calls too: both are parts of one call."
    return Section(anchor="lines", title="Lines", blocks=[Paragraph(text=said), *blocks])


def _cell(one: ProfiledCell) -> list[Block]:
    lines = one.cell.lines
    hottest = sorted((line for line in lines if line.ns), key=lambda line: -line.ns)[:_HOTTEST]
    blocks: list[Block] = [_table(hottest, one, with_file=True)] if hottest else []
    by_file = grouped(sorted(lines, key=lambda line: line.line), lambda line: line.file)
    self_ns = {file: sum(line.ns for line in found) for file, found in by_file.items()}
    for file in sorted(by_file, key=lambda file: -self_ns[file]):
        summary = f"{file}, in its own order: {duration(self_ns[file])}"
        blocks.append(Details(summary=summary, blocks=[_table(_with_gaps(by_file[file]), one)]))
    return blocks


def _with_gaps(lines: Iterable[LineTime]) -> list[LineTime | None]:
    """Insert ``None`` between two lines that are not neighbours in the source."""
    found: list[LineTime | None] = []
    for line in lines:
        if found and found[-1] is not None and line.line > found[-1].line + 1:
            found.append(None)
        found.append(line)
    return found


def _table(lines: Sequence[LineTime | None], one: ProfiledCell, *, with_file: bool = False) -> Table:
    most = max((line.ns for line in lines if line), default=0.0)
    where = Column(title="line", text=lambda row: row["where"], is_number=not with_file, is_code=with_file)
    return Table(
        columns=[
            where,
            Column(title="self", text=lambda row: row["self"], is_number=True),
            Column(title="with callees", text=lambda row: row["below"], is_number=True),
            column("heat", is_code=True),
            column("phase"),
            column("source", is_code=True),
        ],
        rows=[_row(line, most, one, with_file=with_file) for line in lines],
    )


def _row(line: LineTime | None, most: float, one: ProfiledCell, *, with_file: bool) -> Row:
    if line is None:
        return {"where": "⋮", "self": "", "below": "", "heat": "", "phase": "", "source": ""}
    file = line.file.replace("\\", "/").rpartition("/")[2]
    return {
        "where": f"{file}:{line.line}" if with_file else str(line.line),
        "self": percent(share(line.ns, one)),
        "below": percent(share(line.below_ns, one)),
        "heat": heat(line.ns / most if most else 0.0),
        "phase": TITLES[line.phase] if line.ns else "",
        "source": line.text.strip() if with_file else line.text.expandtabs(4).replace(" ", "\N{NO-BREAK SPACE}"),
    }


def heat(part: float) -> str:
    """Return a bar of block characters for a part between 0 and 1, in eighths of a character."""
    whole, rest = divmod(round(8 * _HEAT * part), 8)
    return "█" * whole + _EIGHTHS[rest].strip()


def share(ns: float, one: ProfiledCell) -> float | None:
    """Return a time over the cell's median; ``None`` if the cell has no median."""
    return ns / one.cell.median_ns if one.cell.median_ns else None


def percent(part: float | None) -> str:
    """Format a share; nothing for none."""
    return f"{number(100 * part, 2)} %" if part else ""
