"""Time by function, with the reason for its phase, and time by instruction if it was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.profiling.phases import TITLES
from attnbench.units import count, duration
from attnbench.views.document import Column, Heading, Paragraph, Table, column
from attnbench.views.profile.cases import titled
from attnbench.views.profile.sections.lines import heat, percent, share
from attnbench.views.report.blocks import Details, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.profiling.parts import FunctionTime, InstructionTime
    from attnbench.views.document import Row
    from attnbench.views.profile.cases import ProfiledCase, ProfiledCell
    from attnbench.views.report.blocks import Block

_SHOWN = 15
_SHARE = Column(title="share", text=lambda row: percent(row["share"]), is_number=True)
_TIME = column("time", "ns", unit="ns")


def functions(cases: Sequence[ProfiledCase]) -> Section | None:
    """Return the functions of all cells, or ``None`` if no cell has any."""
    blocks: list[Block] = []
    for title, one in titled(cases):
        if found := one.cell.functions:
            blocks += [Heading(text=title, level=3), _function_table(found[:_SHOWN], one)]
        if len(found) > _SHOWN:
            more = count(len(found) - _SHOWN, "more function")
            blocks.append(Details(summary=more, blocks=[_function_table(found[_SHOWN:], one)]))
    said = "What a function calls is not counted. Its phase is told by what the last column names."
    return Section(anchor="functions", title="Functions", blocks=[Paragraph(text=said), *blocks]) if blocks else None


def _function_table(found: Sequence[FunctionTime], one: ProfiledCell) -> Table:
    rows: list[Row] = [
        {
            "function": each.function or "without a name",
            "module": each.module.replace("\\", "/").rpartition("/")[2],
            "implementation": TITLES[each.phase],
            "ns": each.ns,
            "share": share(each.ns, one),
            "why": each.why or "nothing",
        }
        for each in found
    ]
    phase = Column(title="phase", text=lambda row: row["implementation"], is_implementation=True)
    return Table(
        columns=[_TIME, _SHARE, phase, column("module"), column("function", is_code=True), column("told by", "why")],
        rows=rows,
    )


def instructions(cases: Sequence[ProfiledCase]) -> Section | None:
    """Return the instructions of all cells that recorded them, or ``None`` if there are none."""
    blocks: list[Block] = []
    for title, one in titled(cases):
        if one.cell.instructions:
            blocks.append(Heading(text=title, level=3))
        for ns, function, found in _hottest(one.cell.instructions):
            summary = f"{function}: {duration(ns)}"
            blocks.append(Details(summary=summary, blocks=[_instruction_table(found, one)]))
    return Section(anchor="instructions", title="Instructions", blocks=blocks) if blocks else None


def _hottest(found: Sequence[InstructionTime]) -> list[tuple[float, str, list[InstructionTime]]]:
    """Return the time, name and instructions of the functions that take most time.

    Functions are sorted by time, longest first; instructions keep their order.
    """
    by_function = grouped(found, lambda each: each.function)
    summed = [(sum(each.ns for each in group), function, group) for function, group in by_function.items()]
    return sorted(summed, key=lambda one: -one[0])[:_SHOWN]


def _instruction_table(found: Sequence[InstructionTime], one: ProfiledCell) -> Table:
    most = max(each.ns for each in found) or 1.0
    rows: list[Row] = [
        {
            "address": each.address,
            "line": each.line or None,
            "ns": each.ns,
            "share": share(each.ns, one),
            "heat": heat(each.ns / most),
            "instruction": each.text,
        }
        for each in found
    ]
    return Table(
        columns=[
            column("address", is_code=True),
            column("line", unit="count"),
            _TIME,
            _SHARE,
            column("heat", is_code=True),
            column("instruction", is_code=True),
        ],
        rows=rows,
    )
