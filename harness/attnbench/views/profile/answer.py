"""A profile for a terminal: bars, the phases of each cell, differences between cells, and the answer in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.profiling.phases import TITLES
from attnbench.units import TIMES, duration, number, times
from attnbench.views import columns
from attnbench.views.document import Column, Heading, Paragraph, Plot, Table, View, column
from attnbench.views.profile.bars import WIDTH, text_bars, total_ns
from attnbench.views.profile.cases import cases_of, printable_profile
from attnbench.views.profile.differences import difference_table, differences_of
from attnbench.views.profile.line_differences import line_table
from attnbench.views.profile.sentences import answer, conditions, share, why_not

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.store.profile import Profile
    from attnbench.views.document import Block, Row
    from attnbench.views.profile.cases import ProfiledCase, ProfiledCell
    from attnbench.views.profile.differences import Difference


_CLEARLY_BELOW = 0.95
_ABOUT_THE_CELL = (
    "implementation", "side", "case_id", "label", "device", "threads", "status", "stage", "reason", "median_ns",
    "slowdown", "samples", "lost",
)  # fmt: skip


def profile_view(profile: Profile) -> View:
    """Show a profile: a row for each phase of each cell, and one row for a cell without phases."""
    profile = printable_profile(profile)
    cases = cases_of(profile)
    blocks: list[Block] = [Heading(text="Where the time of a call goes", level=1)]
    if profile.sides:
        blocks.append(Paragraph(text=", ".join(f"{name} = {side}" for name, side in profile.sides.items())))
    for case in cases:
        blocks += _case(case)
    cells = [one for case in cases for one in case.cells]
    facts = {
        "kind": "profile",
        "created_utc": profile.created_utc,
        "command": profile.command,
        "differences": [_difference_fact(one) for case in cases for one in differences_of(case)],
        "notes": {one.name: list(one.cell.notes) for one in cells if one.cell.notes},
    }
    return View(blocks=blocks, rows=[row for one in cells for row in rows_of(one)], facts=facts)


def _case(case: ProfiledCase) -> list[Block]:
    blocks: list[Block] = [Heading(text=case.label)]
    differences = differences_of(case)
    if case.profiled:
        letter = duration(max(map(total_ns, case.profiled)) / WIDTH, 2)
        bars = Plot(title=f"A letter is {letter}.", text=text_bars(case.profiled))
        blocks += [bars, phase_table(case.profiled)]
        blocks += [Paragraph(text=said) for said in about_floors(case.profiled)]
    for one in differences[:1]:
        blocks += [Heading(text=f"{one.slow.name} less {one.fast.name}", level=3), difference_table(one)]
        if one.slow.cell.side and (lines := line_table(one)):
            blocks.append(lines)
    if case.without:
        blocks += [Heading(text="Without a profile", level=3), without_table(case.without)]
    if case.profiled:
        blocks.append(Heading(text="Answer", level=3))
    sentences = [
        *map(answer, case.profiled),
        *(one.sentence for one in differences),
        *map(conditions, case.profiled),
    ]
    return blocks + [Paragraph(text=said) for said in sentences]


def phase_table(cells: Sequence[ProfiledCell]) -> Table:
    """Return a table of the time, share and floor of each phase of each cell."""
    return Table(
        columns=[
            Column(title="implementation", text=lambda row: row["name"], is_implementation=True),
            Column(title="phase", text=lambda row: row["title"], is_implementation=True),
            column("time", "ns", unit="ns"),
            Column(title="share", text=lambda row: f"{number(100 * row['share'], 2)} %", is_number=True),
            Column(title="95 % interval", text=_share_interval, is_number=True, spare=2),
            column("floor", "floor_ns", unit="ns", spare=1),
            Column(title=f"{TIMES} floor", text=lambda row: times(row["times_floor"]), is_number=True),
        ],
        rows=[{**row, "name": one.name} for one in cells for row in rows_of(one)],
    )


def about_floors(cells: Sequence[ProfiledCell]) -> list[str]:
    """Explain floors if the table shows any, and phases below their floor if there are any."""
    over = [row["times_floor"] for one in cells for row in rows_of(one) if row["times_floor"]]
    said = ["The floor of a phase is the least time that this machine's measured peaks allow."] if over else []
    if any(share < _CLEARLY_BELOW for share in over):
        said.append(
            "Below 1\N{MULTIPLICATION SIGN} a phase was faster than those peaks, which are a library's and no law."
        )
    return [" ".join(said)] if said else []


def _share_interval(row: Row) -> str:
    whole = row["ns"] / row["share"] if row["share"] else 0.0
    return f"{100 * row['low_ns'] / whole:.1f} … {100 * row['high_ns'] / whole:.1f} %" if whole else ""


def without_table(cells: Sequence[ProfiledCell]) -> Table:
    """Return a table of the cells that have no profile, with the reason."""
    return Table(
        columns=[columns.IMPLEMENTATION, column("status", is_status=True), column("stage"), column("reason")],
        rows=[{**vars(one.cell), "implementation": one.name, "reason": why_not(one.cell)} for one in cells],
    )


def rows_of(one: ProfiledCell) -> list[Row]:
    """Return a flat row for each phase of a cell, longest first; a cell without phases has one row without times."""
    cell = one.cell
    about: Row = {name: getattr(cell, name) for name in _ABOUT_THE_CELL}
    nothing: Row = dict.fromkeys(("phase", "title", "ns", "low_ns", "high_ns", "share", "floor_ns", "times_floor"))
    return [
        about
        | {
            "phase": phase.value,
            "title": TITLES[phase],
            "ns": time.ns,
            "low_ns": time.low_ns,
            "high_ns": time.high_ns,
            "share": share(time, one),
            "floor_ns": time.floor_ns,
            "times_floor": time.ns / time.floor_ns if time.floor_ns else None,
        }
        for phase, time in one.phases.items()
    ] or [about | nothing]


def _difference_fact(difference: Difference) -> dict[str, object]:
    return {
        "faster": difference.fast.name,
        "slower": difference.slow.name,
        "case_id": difference.slow.cell.case_id,
        "ns": difference.ns,
        "phases": {one.phase.value: one.ns for one in difference.phases},
        "rest_ns": difference.rest_ns,
    }
