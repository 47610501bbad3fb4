"""The section on cells without numbers: those that failed, cannot run here, or are excluded by the scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views import columns
from attnbench.views.cells import NEVER_RAN
from attnbench.views.document import Column, Paragraph, Table, column
from attnbench.views.report.blocks import Block, Section, named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.material import Material

_ABOUT_THE_RULE = ("device", "implementation", "reason")


def section(material: Material) -> Section:
    """Return a table of reasons for each run, failures first, and the scenario's rules that exclude cells."""
    blocks: list[Block] = []
    for source in material.sources:
        failed = columns.reasons(cell for cell in source.cells if cell.status not in NEVER_RAN)
        never = columns.reasons(cell for cell in source.cells if cell.status in NEVER_RAN)
        titled = ((failed, "Failed"), (never, "Cannot run here"), (_excluded(source), "Left out by the scenario"))
        tables: list[Block] = [
            Table(title=title, columns=one.columns, rows=one.rows) for one, title in titled if one.rows
        ]
        blocks += [*named(source), *(tables or [Paragraph(text="Every cell is ok.")])]
    return Section(anchor="failures", title="What has no numbers, and why", blocks=blocks)


def _excluded(source: ReportedRun) -> Table:
    """Return the rules that apply to the run's devices."""
    header = source.run.header
    rows = [
        {"cells": _conditions(rule), "reason": rule.get("reason") or "no reason is given"}
        for rule in header.scenario.get("exclude") or ()
        if rule.get("device") in (None, *header.devices)
    ]
    return Table(columns=[Column(title="cells with", text=lambda row: str(row["cells"])), column("reason")], rows=rows)


def _conditions(rule: Mapping[str, object]) -> str:
    """Describe the conditions under which a rule excludes a cell."""
    said = [f"implementation {rule['implementation']}"] if rule.get("implementation") else []
    for name, wanted in rule.items():
        if name not in _ABOUT_THE_RULE:
            values = wanted if isinstance(wanted, list) else [wanted]
            said.append(f"{name} {' or '.join(map(str, values))}")
    return ", ".join(said)
