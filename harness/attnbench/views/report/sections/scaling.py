"""The laws that time and memory follow over the length, and the section on them."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Literal

from attnbench.scaling import Refusal, Scaling, fit_scaling
from attnbench.units import ABSENT, TIMES, count, duration, length, listing, number, size
from attnbench.views import columns
from attnbench.views.document import Column, Paragraph, Table
from attnbench.views.report.blocks import MOST_CHARTS, Block, Contradiction, Export, Figure, Lead
from attnbench.views.report.charts import roofline_chart
from attnbench.views.report.sections.crossovers import crossover_blocks, crossover_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.document import Row
    from attnbench.views.groups import Group
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.charts.style import Mark

Quantity = Literal["time", "memory"]

LINEAR_AT_MOST = 1.15
"""A memory exponent whose interval lies above this contradicts O(n)."""
MOST_FITS = 160
"""Curves that laws are fitted to; of a larger sweep, those of the first groups."""
_LINEAR = "O(n)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingCurve:
    """How time or memory of an implementation grows within a group of cases."""

    source: ReportedRun
    group: Group
    implementation: str
    quantity: Quantity
    declared: str | None
    """What the implementation declares of its memory."""
    law: Scaling | Refusal

    @property
    def contradiction(self) -> str | None:
        """A sentence where the measurement contradicts the declaration."""
        if self.quantity != "memory" or not isinstance(self.law, Scaling):
            return None
        found = self.law.exponent
        if self.declared == _LINEAR and found.low > LINEAR_AT_MOST:
            said = f"{number(found.value)} ({number(found.low)} … {number(found.high)})"
            return f"{self.implementation} declares {_LINEAR} memory, but it grows with an exponent of {said}"
        return None

    def row(self) -> Row:
        """Flat and raw, for files."""
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
            ("exponent", law and law.exponent),
            (f"floor_{unit}", law and law.floor),
            ("crossover_seqlen", law and law.crossover),
            ("local_exponent", local),
        ):
            found |= {name: interval and interval.value, f"{name}_low": interval and interval.low}
            found[f"{name}_high"] = interval and interval.high
        return found | {
            f"coefficient_{unit}": law and law.coefficient,
            "cliffs": [f"{c.kind} at {c.length}: {c.factor:.4g}" for c in law.cliffs] if law else None,
            "sizes": len(law.lengths) if law else None,
            "processes": law and law.processes,
            "residual": law and law.noise,
            "interval_method": law and law.method,
        }


def growth_of(sources: Sequence[ReportedRun]) -> list[ScalingCurve]:
    """Laws of every curve that has two lengths or more."""
    found: list[ScalingCurve] = []
    for source in sources:
        for group in source.grouping.groups:
            if len(group.lengths) < 2 or len(found) >= MOST_FITS:
                continue
            curves: dict[str, list[CellResult]] = {}
            for cell in group.cells:
                curves.setdefault(cell.implementation, []).append(cell)
            for implementation, cells in sorted(curves.items()):
                found += [one for one in (_growth(source, group, implementation, cells, q) for q in _BOTH) if one]
    return found


_BOTH: tuple[Quantity, Quantity] = ("time", "memory")


def _growth(
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


def scaling_blocks(found: Sequence[ScalingCurve], marks: Mapping[str, Mark]) -> tuple[list[Block], list[Export]]:
    """The section on laws, and its numbers."""
    meets = crossover_rows(found)
    exports = [Export(stem="scaling", rows=[one.row() for one in found]), Export(stem="crossovers", rows=meets)]
    laws = [one for one in found if isinstance(one.law, Scaling)]
    if not laws:
        reasons = sorted({one.law.reason for one in found if isinstance(one.law, Refusal)})
        why = f": {'; '.join(reasons)}" if reasons else ""
        return [Paragraph(text=f"No law was fitted{why}.")], exports if found else []
    blocks: list[Block] = []
    if len(found) >= MOST_FITS:
        text = f"Laws are fitted to the curves of the first groups of cases only ({len(found)} curves); narrow the run."
        blocks.append(Paragraph(text=text))
    contradictions = [said for one in found if (said := one.contradiction)]
    blocks += [Contradiction(text=f"{said}.") for said in contradictions]
    declared = [one for one in laws if one.quantity == "memory" and one.declared]
    if declared and not contradictions:
        text = f"No memory exponent contradicts what its implementation declares ({count(len(declared), 'curve')})."
        blocks.append(Lead(text=text))
    blocks += _exponent_figures(laws, marks)
    blocks.append(_law_table(found))
    blocks.append(
        Paragraph(
            text="The exponent k is that of a + b·n^k, fitted to logarithms, so that the floor a (launch, fixed "
            "buffers) stays out of it; up to the length where the two are equal the floor dominates. Where another "
            "law is better supported (AICc), it is named, and k only describes the range. The local exponent is what "
            f"the last doubling did. A cliff is one size, or all from it on, off the law. Intervals: {_methods(laws)}."
        )
    )
    blocks += crossover_blocks(meets)
    return blocks, exports


def _methods(laws: Sequence[ScalingCurve]) -> str:
    counted: dict[str, int] = {}
    for one in laws:
        assert isinstance(one.law, Scaling)
        counted[one.law.method] = counted.get(one.law.method, 0) + 1
    said = sorted(counted.items(), key=lambda item: -item[1])
    return listing([f"{method} ({count(n, 'curve')})" for method, n in said], most=3)


def _exponent_figures(laws: Sequence[ScalingCurve], marks: Mapping[str, Mark]) -> list[Block]:
    figures: list[Block] = []
    keyed = itertools.groupby(laws, key=lambda one: (one.source.name, one.group.label))
    for _, of_group in keyed:
        members = list(of_group)
        for quantity in _BOTH:
            chosen = [one for one in members if one.quantity == quantity]
            if chosen and len(figures) < MOST_CHARTS:
                figures.append(_exponent_figure(f"scaling-{len(figures) + 1}", chosen, quantity, marks))
    return figures


def _exponent_figure(
    stem: str, chosen: Sequence[ScalingCurve], quantity: Quantity, marks: Mapping[str, Mark]
) -> Figure:
    rows: list[Row] = []
    for one in chosen:
        assert isinstance(one.law, Scaling)
        found = one.law.exponent
        rows.append(
            {
                "implementation": one.implementation,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "at": f"{length(one.law.lengths[0])} … {length(one.law.lengths[-1])}",
                "text": _interval_text(found.value, found.low, found.high),
            }
        )
    ordered = sorted(rows, key=lambda row: row["value"])
    title = f"{chosen[0].source.title(chosen[0].group)}: exponent of {quantity}"
    least, most = ordered[0], ordered[-1]
    return Figure(
        stem=stem,
        title=title,
        alt=f"Exponent of {quantity} over the sequence length with 95 % intervals. Least {least['implementation']} "
        f"{least['text']}, most {most['implementation']} {most['text']}.",
        drawing=roofline_chart.exponents(rows, marks, quantity),
        table=_law_table(chosen),
        facets=chosen[0].source.facets(chosen[0].group),
    )


def _interval_text(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} … {high:.2f})"


def _law_table(found: Sequence[ScalingCurve]) -> Table:
    groups = {(one.source.name, one.group.label) for one in found}
    rows = [
        {"implementation": one.implementation, "of": one.quantity, "growth": one, "cases": one.source.title(one.group)}
        for one in found
    ]
    cases = [Column(title="cases", text=lambda row: str(row["cases"]))] if len(groups) > 1 else []
    return Table(
        columns=[
            *cases,
            columns.IMPLEMENTATION,
            Column(title="of", text=lambda row: str(row["of"])),
            Column(title="exponent, 95 % interval", text=_exponent_text, is_number=True),
            Column(title="declared", text=lambda row: _declared(row["growth"])),
            Column(title="law", text=_law_text),
            Column(title="floor", text=_floor_text, is_number=True),
            Column(title="equal at", text=_equal_text, is_number=True),
            Column(title="local exponent", text=_local_text, is_number=True),
            Column(title="cliffs", text=_cliff_text),
            Column(title="sizes", text=_sizes_text),
        ],
        rows=rows,
    )


def _declared(one: ScalingCurve) -> str:
    return (one.declared or ABSENT) if one.quantity == "memory" else ""


def _law(row: Row) -> Scaling | None:
    law = row["growth"].law
    return law if isinstance(law, Scaling) else None


def _exponent_text(row: Row) -> str:
    law = _law(row)
    return ABSENT if law is None else _interval_text(law.exponent.value, law.exponent.low, law.exponent.high)


def _law_text(row: Row) -> str:
    law = _law(row)
    return law.law.formula if law else row["growth"].law.reason


def _floor_text(row: Row) -> str:
    law = _law(row)
    if law is None or law.floor is None:
        return ABSENT
    return duration(law.floor.value, 2) if row["of"] == "time" else size(law.floor.value)


def _equal_text(row: Row) -> str:
    law = _law(row)
    return ABSENT if law is None or law.crossover is None else f"{law.crossover.value:,.0f}"


def _local_text(row: Row) -> str:
    local = row["growth"].law.local_exponent
    return ABSENT if local is None else _interval_text(local.value, local.low, local.high)


def _cliff_text(row: Row) -> str:
    law = _law(row)
    if law is None:
        return ""
    return "; ".join(
        f"{'from' if c.kind == 'step' else 'at'} {length(c.length)} {TIMES}{number(c.factor)}" for c in law.cliffs
    )


def _sizes_text(row: Row) -> str:
    law = _law(row)
    return "" if law is None else f"{len(law.lengths)} from {length(law.lengths[0])} to {length(law.lengths[-1])}"
