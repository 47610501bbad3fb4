"""The material that sections of a report are made from."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from attnbench.views.report.curves import curves_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.views.cells import CellResult
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.charts.style import Mark
    from attnbench.views.report.curves import ScalingCurve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """The runs, and what several sections need of them."""

    sources: Sequence[ReportedRun]
    marks: Mapping[str, Mark]
    baseline: str | None
    """The baseline of speed-ups, in those runs that have it; ``None`` leaves it to each scenario."""

    @property
    def cells(self) -> list[CellResult]:
        """The cells of all runs."""
        return [cell for source in self.sources for cell in source.cells]

    @functools.cached_property
    def curves(self) -> list[ScalingCurve]:
        """The laws of time and memory."""
        return curves_of(self.sources)
