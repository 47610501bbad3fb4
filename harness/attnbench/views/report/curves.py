"""Scaling laws: how time and memory of every curve of a report grow with the length."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from attnbench.grouping import grouped
from attnbench.scaling import Refusal, Scaling, fit_scaling
from attnbench.units import number
from attnbench.views.estimates import as_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.groups import Group
    from attnbench.views.report.blocks import ReportedRun

Quantity = Literal["time", "memory"]

LINEAR_AT_MOST = 1.15
"""If the whole interval of a memory exponent is above this, it contradicts O(n)."""
MOST_FITS = 160
"""About how many curves laws are fitted to; in a larger sweep, those of the first groups."""
_LINEAR = "O(n)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingCurve:
    """The growth of an implementation's time or memory within a group of cases."""

    source: ReportedRun
    group: Group
    implementation: str
    quantity: Quantity
    declared: str | None
    """The memory complexity that the implementation declares."""
    law: Scaling | Refusal

    @property
    def contradiction(self) -> str | None:
        """A sentence if the measurement contradicts the declaration, else ``None``."""
        if self.quantity != "memory" or not isinstance(self.law, Scaling):
            return None
        found = self.law.exponent
        if self.declared == _LINEAR and found.low > LINEAR_AT_MOST:
            said = f"{number(found.value)} ({number(found.low)} … {number(found.high)})"
            return f"{self.implementation} declares {_LINEAR} memory, but it grows with an exponent of {said}"
        return None

    def row(self) -> Row:
        """Return flat raw values for files."""
        law = self.law if isinstance(self.law, Scaling) else None
        local = self.law.local_exponent
        found: Row = {
            **self.source.facets(self.group),
            "cases": self.source.title(self.group),
            "implementation": self.implementation,
            "quantity": self.quantity,
            "declared_memory": self.declared,
            "law": law and law.law.name,
            "refused": None if law else self.law.reason,  # type: ignore[union-attr]
        }
        unit = "ns" if self.quantity == "time" else "bytes"
        for name, interval in (
            ("exponent", law.exponent if law else None),
            (f"floor_{unit}", law.floor if law else None),
            ("crossover_seqlen", law.crossover if law else None),
            ("local_exponent", local),
        ):
            found |= as_fields(name, interval)
        return found | {
            f"coefficient_{unit}": law and law.coefficient,
            "cliffs": [f"{c.kind} at {c.length}: {c.factor:.4g}" for c in law.cliffs] if law else None,
            "sizes": len(law.lengths) if law else None,
            "processes": law and law.processes,
            "residual": law and law.noise,
            "interval_method": law and law.method,
        }


def curves_of(sources: Sequence[ReportedRun]) -> list[ScalingCurve]:
    """Fit a law to every curve that has at least two lengths."""
    found: list[ScalingCurve] = []
    for source in sources:
        for group in source.grouping.groups:
            if len(group.lengths) < 2 or len(found) >= MOST_FITS:
                continue
            for implementation, cells in sorted(grouped(group.cells, lambda cell: cell.implementation).items()):
                found += [one for one in (_curve(source, group, implementation, cells, q) for q in QUANTITIES) if one]
    return found


QUANTITIES: tuple[Quantity, Quantity] = ("time", "memory")


def _curve(
    source: ReportedRun, group: Group, implementation: str, cells: Sequence[CellResult], quantity: Quantity
) -> ScalingCurve | None:
    points: list[tuple[int, Sequence[float]]] = []
    for cell in cells:
        values: Sequence[float] = cell.memories if quantity == "memory" else cell.timing.medians if cell.timing else ()
        if values:
            points.append((cell.case.seqlen_kv, values))
    if len(points) < 2:
        return None
    declaration = source.run.header.implementations.get(implementation, {}).get("declaration") or {}
    law = fit_scaling([tokens for tokens, _ in points], [values for _, values in points])
    return ScalingCurve(
        source=source,
        group=group,
        implementation=implementation,
        quantity=quantity,
        declared=declaration.get("memory"),
        law=law,
    )
