"""The section of a large report in which the reader chooses a group of cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.views.report.blocks import Explorer, Section, is_large

if TYPE_CHECKING:
    from attnbench.views.report.material import Material


def section(material: Material) -> Section | None:
    """Return a list of groups to choose from, or ``None`` if the report shows every group."""
    if not is_large(material.sources):
        return None
    groups = sum(len(source.grouping.groups) for source in material.sources)
    instead = f"Where scripts run, each of the {groups:,} groups of cases is drawn here when it is chosen; here, "
    instead += "data/cells.csv and data/winners.csv have them."
    return Section(anchor="explore", title="One group of cases", blocks=[Explorer(instead=instead)])
