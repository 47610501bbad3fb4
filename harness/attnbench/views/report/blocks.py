"""The blocks of a report, which read the same on the page and in Markdown."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from attnbench.units import length
from attnbench.views.document import Heading, Paragraph, Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnbench.store.reader import RunFile
    from attnbench.views.cells import CellResult
    from attnbench.views.groups import Group, Grouping
    from attnbench.views.report.charts.drawing import Drawing
    from attnbench.views.report.charts.marks import Mark

MOST_CHARTS = 24
"""A report of more groups of cases than this is large: it shows sums over groups, and single ones when asked for."""
DRAWN_OF_LARGE = 12
"""So many groups of a large report are drawn even so, in each section: for its Markdown, and where no scripts run."""
MOST_ROWS = 60
"""Rows of a table about groups; the files beside the page have all."""

Facets = dict[str, str]
"""The filters of a block: dtype, mask, heads and so on, each with the value that holds for it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lead:
    """The sentence that a reader should take along."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contradiction:
    """A claim that the measurement contradicts: the reader ought to stop there."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with everything that stands for it where it cannot be seen."""

    stem: str
    """Names the file and the anchor, such as ``time-1``."""
    title: str
    alt: str
    drawing: Drawing
    table: Table
    note: str = ""
    facets: Facets = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A matrix as a chart, with everything that stands for it where it cannot be seen."""

    stem: str
    title: str
    alt: str
    svg: str
    table: Table
    facets: Facets = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedded:
    """An SVG file beside the page that has a script of its own, shown within the page."""

    file: str
    title: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapCell:
    """The fastest implementation of one case."""

    names: tuple[str, ...]
    """The fastest; behind it those which noise does not tell from it."""
    ties: tuple[str, ...] = ()
    """For each of those, the interval of its time's ratio to the fastest one's."""
    lead: str
    """The lead over the next implementation, with its interval; empty if there is no other."""
    said: str
    """All of it as a sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapRow:
    """The cases that differ in length alone."""

    label: str
    cells: tuple[MapCell | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Map:
    """Fields with a column for each length."""

    stem: str
    corner: str
    """The axis that grows: ``seqlen`` or ``seqlen_kv``."""
    lengths: tuple[int, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The caption above the fields."""
        return tuple(map(length, self.lengths))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WinnerMap(_Map):
    """The winners as a map: a row for each group of cases, a column for each length.

    Where scripts run, they make the rows anew whenever an implementation is hidden or cases are chosen.
    """

    rows: tuple[MapRow, ...]
    left_out: int = 0
    """Rows beyond those, which the script shows page by page."""
    of_groups: bool = True
    """Whether a row is a group; else it is all groups that share a value, such as a dtype."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeatCell:
    """A number on a ground that says how much it is."""

    text: str
    level: int
    """From -4 to 4 around what is neither good nor bad."""
    said: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeatMap(_Map):
    """Numbers by implementation (rows) and length (columns), coloured."""

    title: str
    rows: tuple[tuple[str, tuple[HeatCell | None, ...]], ...]
    facets: Facets
    baseline: str = ""
    """The implementation that speed-ups are relative to."""
    group: int | None = None
    """The group of the report that speed-ups belong to; ``None`` for means over all of a run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strips:
    """Raw samples, in the order in which they were taken."""

    title: str
    rows: Sequence[Row]
    """``implementation``, ``length``, ``samples`` (ns), ``text`` of each column."""
    columns: Sequence[tuple[str, str]]
    """Title and field of each column beside the picture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """A field for a memory budget, and the laws that it is answered from; only where scripts run."""

    laws: Sequence[Row]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explorer:
    """One group of cases at a time, drawn when it is chosen; only where scripts run."""

    instead: str
    """The text where no scripts run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Details:
    """Blocks that most readers pass over: closed until they are opened."""

    summary: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Blocks about some of the cases."""

    facets: Facets
    blocks: Sequence[Block]


Block = (
    Heading
    | Paragraph
    | Table
    | Lead
    | Contradiction
    | Figure
    | Picture
    | Embedded
    | WinnerMap
    | HeatMap
    | Strips
    | Budget
    | Explorer
    | Details
    | Part
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """A table of numbers that is written beside the page."""

    stem: str
    rows: Iterable[Row]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report with a permanent anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    exports: Sequence[Export] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportPage:
    """The whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    marks: Mapping[str, Mark]
    marked: str = "implementations"
    """The things that marks tell apart, in the plural."""
    exports: Sequence[Export] = ()
    points: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"names": [], "facets": {}, "groups": []})
    """Numbers of all groups, for the page's script; default none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """One of the runs that the report is of."""

    run: RunFile
    name: str
    """Tells the runs apart; empty where there is only one."""
    cells: Sequence[CellResult]
    grouping: Grouping
    first: int = 0
    """Index of its first group among those of the whole report."""

    def title(self, group: Group) -> str:
        """A group's name in the whole report."""
        own = group.label or self.grouping.common
        return f"{self.name}: {own}" if self.name else own

    def facets(self, group: Group) -> Facets:
        """The filters of the group."""
        case = group.cells[0].case
        heads = str(case.heads_q) if case.heads_q == case.heads_kv else f"{case.heads_q}:{case.heads_kv}"
        return {
            "run": self.name or "this run",
            "device": group.device,
            "mode": case.mode,
            "dtype": case.dtype,
            "mask": case.mask,
            "heads": heads,
            "head_dim": str(case.head_dim),
            "batch": str(case.batch),
            "score_mod": case.score_mod,
            "inputs": case.inputs_label(),
        }


def named(source: ReportedRun) -> list[Block]:
    """A heading with the run's name, where there are several."""
    return [Heading(text=source.name, level=3)] if source.name else []


def is_large(sources: Sequence[ReportedRun]) -> bool:
    """Whether there are too many groups to show each of them."""
    return sum(len(source.grouping.groups) for source in sources) > MOST_CHARTS


def groups_drawn(sources: Sequence[ReportedRun]) -> int:
    """The number of groups that a section shows one by one."""
    return DRAWN_OF_LARGE if is_large(sources) else MOST_CHARTS
