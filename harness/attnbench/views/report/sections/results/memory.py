"""The section on memory: its curves, and the lengths that fit a budget."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from attnbench.scaling import Scaling
from attnbench.units import length, size
from attnbench.views import columns
from attnbench.views.document import Paragraph, Table, column
from attnbench.views.report.blocks import Block, Budget, Export, Part, Section
from attnbench.views.report.figures import group_figures, memory_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.document import Row
    from attnbench.views.report.curves import ScalingCurve
    from attnbench.views.report.material import Material

BUDGETS = tuple(gib * 2**30 for gib in (1, 8, 24, 80))
FARTHEST = 64
"""Laws are not used beyond this multiple of the longest measured length."""


def section(material: Material) -> Section:
    """Return charts of memory, and tables of the lengths that fit."""
    exports = [_budget_numbers(material.curves)]
    return Section(anchor="memory", title="Memory", blocks=_blocks(material), exports=exports)


def _blocks(material: Material) -> list[Block]:
    blocks = group_figures(material, "memory", memory_figure)
    laws = [one for one in material.curves if one.quantity == "memory" and isinstance(one.law, Scaling)]
    if not laws:
        return blocks
    blocks.append(Budget(laws=[_law_row(one) for one in laws]))
    for _, of_group in itertools.groupby(laws, key=lambda one: (one.source.name, one.group.label)):
        members = list(of_group)
        title = f"{members[0].source.title(members[0].group)}: largest {members[0].group.axis} within"
        blocks.append(
            Part(
                facets=members[0].source.facets(members[0].group),
                blocks=[_budget_table(title, members)],
            )
        )
    blocks.append(
        Paragraph(
            text="Lengths follow from the law of peak memory, outputs and workspace of one call, inputs not counted. "
            "* lies beyond the lengths that were measured."
        )
    )
    return blocks


def _budget_numbers(found: Sequence[ScalingCurve]) -> Export:
    """Return the length that fits, for each law of memory and each budget."""
    return Export(
        stem="budgets",
        rows=[
            {
                "cases": one.source.title(one.group),
                "implementation": one.implementation,
                "budget_bytes": budget,
                "largest_seqlen": one.law.largest_within(budget),
                "longest_measured": one.law.lengths[-1],
            }
            for one in found
            if one.quantity == "memory" and isinstance(one.law, Scaling)
            for budget in BUDGETS
        ],
    )


def _law_row(one: ScalingCurve) -> Row:
    assert isinstance(one.law, Scaling)
    law = one.law
    return {
        "implementation": one.implementation,
        "cases": one.source.title(one.group),
        "floor": law.floor.value if law.floor else 0.0,
        "coefficient": law.coefficient * math.prod(c.factor for c in law.cliffs if c.kind == "step"),
        "exponent": law.exponent.value,
        "longest": law.lengths[-1],
        "facets": one.source.facets(one.group),
    }


def _budget_table(title: str, members: Sequence[ScalingCurve]) -> Table:
    rows: list[Row] = []
    for one in members:
        assert isinstance(one.law, Scaling)
        fitting = {size(budget): _fitting(one.law, budget) for budget in BUDGETS}
        rows.append({"implementation": one.implementation, **fitting})
    budgets = [column(size(budget), is_number=True) for budget in BUDGETS]
    return Table(columns=[columns.IMPLEMENTATION, *budgets], rows=rows, title=title)


def _fitting(law: Scaling, budget: float) -> str:
    """Format the largest length that fits, to two digits; a star marks a length beyond the measured ones."""
    found = law.largest_within(budget)
    if found is None:
        return "none"
    if found > FARTHEST * law.lengths[-1]:
        return f"> {length(FARTHEST * law.lengths[-1])}*"
    rounded = float(f"{found:.2g}")
    text = f"{rounded / 1e6:.3g} M" if rounded >= 1e6 else f"{rounded:,.0f}"
    return f"{text}*" if found > law.lengths[-1] else text
