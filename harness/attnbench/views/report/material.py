"""The input of a report's sections."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from attnbench.views.compare import baseline_of, compare_implementations
from attnbench.views.report.curves import curves_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.history.store import History
    from attnbench.views.cells import CellResult
    from attnbench.views.compare import Baseline, Comparison
    from attnbench.views.groups import Group
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.charts.marks import Mark
    from attnbench.views.report.curves import ScalingCurve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gains:
    """The speed-ups of one run."""

    baseline: Baseline
    comparison: Comparison


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """The runs, and everything derived from them that several sections need."""

    sources: Sequence[ReportedRun]
    marks: Mapping[str, Mark]
    baseline: str | None
    """The baseline of speed-ups in the runs that have it; ``None`` uses each scenario's."""
    across_machines: bool = False
    """Whether machines are compared with each other as well."""
    history: History | None = None
    """The history of the cells over commits; ``None`` if it was not requested."""

    @property
    def cells(self) -> list[CellResult]:
        """The cells of all runs."""
        return [cell for source in self.sources for cell in source.cells]

    @functools.cached_property
    def curves(self) -> list[ScalingCurve]:
        """The scaling laws of time and memory."""
        return curves_of(self.sources)

    @functools.cached_property
    def gains(self) -> list[Gains | None]:
        """The speed-ups of each run; ``None`` for a run without times."""
        return [self._gains(source) for source in self.sources]

    @functools.cached_property
    def leading(self) -> Group | None:
        """The group with the most times, which the page begins with; ``None`` if there are no times."""
        groups = [group for source in self.sources for group in source.grouping.groups]
        most = max(groups, key=_times, default=None)
        return most if most is not None and _times(most) else None

    def _gains(self, source: ReportedRun) -> Gains | None:
        is_here = any(cell.implementation == self.baseline for cell in source.cells)
        chosen = baseline_of(source.run.header, source.cells, self.baseline if is_here else None)
        if chosen is None:
            return None
        return Gains(baseline=chosen, comparison=compare_implementations(source.run, chosen.name, cells=source.cells))


def _times(group: Group) -> int:
    return sum(cell.timing is not None for cell in group.cells)
