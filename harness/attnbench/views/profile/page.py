"""A profile as a folder: a page, its Markdown, charts, flame graphs, folded stacks and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.store.profile import read_profile
from attnbench.units import listing
from attnbench.views.profile.cases import cases_of, printable_profile
from attnbench.views.profile.flame import flame_svg, folded
from attnbench.views.profile.marks import MARKS
from attnbench.views.profile.sections import flames, functions, kernels, lines, memory, phases, provenance
from attnbench.views.profile.trace import trace_json
from attnbench.views.report.blocks import ReportPage
from attnbench.views.report.write import write_page

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.store.profile import Profile


def write_profile_page(folder: Path) -> None:
    """Write ``index.html`` and ``report.md`` with their charts next to the folder's ``profile.json``.

    The files of a cell have its number, counted from 1, in their names: ``flame-N.svg``, ``flame-N.folded``,
    ``trace-N.json``.

    Raises:
        ProfileError: the folder holds no profile.
    """
    profile = printable_profile(read_profile(folder))
    for number, cell in enumerate(profile.cells, start=1):
        if cell.stacks:
            (folder / f"flame-{number}.svg").write_text(flame_svg(cell), encoding="utf-8")
            (folder / f"flame-{number}.folded").write_text(folded(cell), encoding="utf-8")
        if cell.timeline:
            (folder / f"trace-{number}.json").write_text(trace_json(cell), encoding="utf-8")
    write_page(profile_report(profile), folder)


def profile_report(profile: Profile) -> ReportPage:
    """Return the page of a profile whose texts are printable."""
    cases = cases_of(profile)
    sections = [
        phases.section(cases),
        kernels.section(cases),
        lines.section(cases),
        functions.functions(cases),
        functions.instructions(cases),
        memory.section(cases),
        flames.section(cases),
        provenance.section(profile, cases),
    ]
    sides = [f"{name} = {side}" for name, side in profile.sides.items()]
    return ReportPage(
        title="Where the time of a call goes",
        subtitle="; ".join([listing([case.label for case in cases], most=2), *sides]),
        sections=[section for section in sections if section is not None],
        marks=MARKS,
        marked="phases",
    )
