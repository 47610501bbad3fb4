"""The blocks of a report, rendered on the page and in Markdown."""

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
"""A report with more groups of cases is large: it shows sums over groups, and single groups on request."""
DRAWN_OF_LARGE = 12
"""The groups that each section of a large report still draws, for its Markdown and for pages without scripts."""
MOST_ROWS = 60
"""The most rows of a table about groups; the files next to the page have all."""

Facets = dict[str, str]
"""The filters that apply to a block: dtype, mask, heads and so on, each with its value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lead:
    """The main sentence of a section."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contradiction:
    """A claim that the measurement contradicts, shown prominently."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart, with text and a table for readers who cannot see it."""

    stem: str
    """Name of the file and the anchor, such as ``time-1``."""
    title: str
    alt: str
    drawing: Drawing
    table: Table
    note: str = ""
    facets: Facets = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A matrix as a chart, with text and a table for readers who cannot see it."""

    stem: str
    title: str
    alt: str
    svg: str
    table: Table
    facets: Facets = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedded:
    """An SVG file next to the page with a script of its own, shown in a frame."""

    file: str
    title: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapCell:
    """The fastest implementation of one case."""

    names: tuple[str, ...]
    """The fastest, followed by those within noise of it."""
    ties: tuple[str, ...] = ()
    """For each of the latter, the interval of its time over that of the fastest."""
    lead: str
    """The lead over the next implementation, with its interval; empty if there is no other."""
    said: str
    """The whole field as a sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapRow:
    """Cases that differ only in length."""

    label: str
    cells: tuple[MapCell | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Map:
    """A map with a column for each length."""

    stem: str
    corner: str
    """The name of the axis that grows: ``seqlen`` or ``seqlen_kv``."""
    lengths: tuple[int, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The captions of the columns."""
        return tuple(map(length, self.lengths))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WinnerMap(_Map):
    """The winners as a map: a row for each group of cases, a column for each length.

    A script rebuilds the rows when an implementation is hidden or a filter changes.
    """

    rows: tuple[MapRow, ...]
    left_out: int = 0
    """Number of further rows, which the script shows page by page."""
    of_groups: bool = True
    """Whether a row is a group; else it is all groups that share a value, such as a dtype."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeatCell:
    """A number with a background colour that shows its size."""

    text: str
    level: int
    """From -4 (bad) to 4 (good); 0 is neutral."""
    said: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeatMap(_Map):
    """Numbers by implementation (rows) and length (columns), with colours."""

    title: str
    rows: tuple[tuple[str, tuple[HeatCell | None, ...]], ...]
    facets: Facets
    baseline: str = ""
    """The implementation that speed-ups are relative to; empty for other numbers."""
    group: int | None = None
    """Index of the report's group that speed-ups belong to; ``None`` for means over a whole run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strips:
    """Raw samples in the order in which they were taken."""

    title: str
    rows: Sequence[Row]
    """Each has ``implementation``, ``length``, ``samples`` (ns), and the ``text`` of each column."""
    columns: Sequence[tuple[str, str]]
    """Title and field of each column next to the picture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """An input for a memory budget, and the laws that answer it; only shown with scripts."""

    laws: Sequence[Row]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explorer:
    """A view of one chosen group of cases at a time; only shown with scripts."""

    instead: str
    """The text that is shown without scripts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Details:
    """Blocks that are folded until a reader opens them."""

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
    """A table of numbers that is written to a file next to the page."""

    stem: str
    rows: Iterable[Row]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the report with a permanent anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    exports: Sequence[Export] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportPage:
    """A whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    marks: Mapping[str, Mark]
    marked: str = "implementations"
    """Plural noun for the things that marks distinguish."""
    exports: Sequence[Export] = ()
    points: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"names": [], "facets": {}, "groups": []})
    """Numbers of all groups for the page's script; none by default."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A run that the report is about."""

    run: RunFile
    name: str
    """Distinguishes the runs; empty for a single run."""
    cells: Sequence[CellResult]
    grouping: Grouping
    first: int = 0
    """Index of its first group among the groups of the whole report."""

    def title(self, group: Group) -> str:
        """Return a group's name, which is unique in the whole report."""
        own = group.label or self.grouping.common
        return f"{self.name}: {own}" if self.name else own

    def facets(self, group: Group) -> Facets:
        """Return the filters of a group."""
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
    """Return a heading with the run's name if there are several runs."""
    return [Heading(text=source.name, level=3)] if source.name else []


def is_large(sources: Sequence[ReportedRun]) -> bool:
    """Whether there are too many groups to show each of them."""
    return sum(len(source.grouping.groups) for source in sources) > MOST_CHARTS


def groups_drawn(sources: Sequence[ReportedRun]) -> int:
    """Return the number of groups that a section shows one by one."""
    return DRAWN_OF_LARGE if is_large(sources) else MOST_CHARTS
