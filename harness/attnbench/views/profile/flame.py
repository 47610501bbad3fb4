"""Stacks as folded text, and as a flame graph: a self-contained SVG that shows all frames without scripts, too."""

from __future__ import annotations

import collections
import dataclasses
from importlib import resources
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from attnbench.profiling.phases import TITLES, Phase
from attnbench.units import duration, number
from attnbench.untrusted.printable import in_one_line
from attnbench.views.profile.marks import style_of_phases
from attnbench.views.report.charts.style import DARK, LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnbench.store.profile import CellProfile

WIDTH, ROW, TOP = 1200, 18, 26
LETTER = 6.7
"""Width of a letter, in pixels."""
_NARROWEST = 0.3
"""In pixels; narrower frames are not drawn."""
_DEEPEST = 200
_MOST = 2 / 3


@dataclasses.dataclass
class Frame:
    """A function or a phase below one path of callers."""

    name: str
    ns: float = 0.0
    by_phase: collections.Counter[Phase] = dataclasses.field(default_factory=collections.Counter)
    callees: dict[str, Frame] = dataclasses.field(default_factory=dict)

    def add(self, path: tuple[str, ...], phase: Phase, ns: float) -> None:
        """Add time to this frame and to each frame of the path below it."""
        frame = self
        for name in (None, *path):
            if name is not None:
                frame = frame.callees.setdefault(name, Frame(name))
            frame.ns += ns
            frame.by_phase[phase] += ns  # type: ignore[assignment]  # counts nanoseconds


def folded(cell: CellProfile) -> str:
    """Return stacks as lines ``thread;frame;frame;[phase] nanoseconds``.

    flamegraph.pl, speedscope and inferno read this format.
    """
    found: collections.Counter[str] = collections.Counter()
    for path, _, ns in _paths(cell):
        found[";".join(name.replace(";", ",") for name in path)] += round(ns)
    return "".join(f"{path} {ns}\n" for path, ns in sorted(found.items()) if ns)


def tree(cell: CellProfile) -> Frame:
    """Merge all stacks to one tree whose root is the call."""
    root = Frame(cell.implementation)
    for path, phase, ns in _paths(cell):
        root.add(path, phase, ns)
    return root


def _paths(cell: CellProfile) -> Iterator[tuple[tuple[str, ...], Phase, float]]:
    """Yield each stack's path (thread, frames from the outermost on, phase), its phase and its nanoseconds."""
    for stack in cell.stacks:
        frames = (in_one_line(frame) or "?" for frame in stack.frames[:_DEEPEST])
        yield (stack.thread, *frames, f"[{TITLES[stack.phase]}]"), stack.phase, stack.ns


def flame_svg(cell: CellProfile) -> str:
    """Return a flame graph as SVG, callers above callees: click to zoom, type to search."""
    root = tree(cell)
    boxes = list(_boxes(root, 0.0, 0, WIDTH / root.ns)) if root.ns else []
    height = _height(boxes)
    title = escape(in_one_line(f"{cell.implementation}, {cell.label}: {duration(root.ns)} of a call"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" data-letter="{LETTER}">',
            f"<title>{title}</title>",
            f"<style>{_style()}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
            f'<text class="head" x="4" y="17">{title}</text>',
            *(_drawn(frame, x, depth, root.ns) for frame, x, depth in boxes),
            f"<script><![CDATA[{resources.files(__package__).joinpath('flame.js').read_text('utf-8')}]]></script>",
            "</svg>\n",
        ]
    )


def flame_height(cell: CellProfile) -> int:
    """Return the height of a flame graph that is ``WIDTH`` wide."""
    root = tree(cell)
    return _height(list(_boxes(root, 0.0, 0, WIDTH / root.ns)) if root.ns else [])


def _height(boxes: Sequence[tuple[Frame, float, int]]) -> int:
    return TOP + ROW * (1 + max((depth for _, _, depth in boxes), default=0))


def _boxes(frame: Frame, x: float, depth: int, scale: float) -> Iterator[tuple[Frame, float, int]]:
    """Yield the frames that are wide enough, each with its left end and depth; callees are sorted by name."""
    if frame.ns * scale < _NARROWEST:
        return
    yield frame, x, depth
    for _, callee in sorted(frame.callees.items()):
        yield from _boxes(callee, x, depth + 1, scale)
        x += callee.ns * scale


def _drawn(frame: Frame, x: float, depth: int, whole: float) -> str:
    width = WIDTH * frame.ns / whole
    top = TOP + ROW * depth
    phases = ", ".join(f"{100 * ns / frame.ns:.0f} % {TITLES[phase]}" for phase, ns in frame.by_phase.most_common(3))
    said = f"{frame.name}: {duration(frame.ns)}, {number(100 * frame.ns / whole)} %; of it {phases}"
    name = in_one_line(frame.name)
    return (
        f'<g data-name="{escape(name, {chr(34): "&quot;"})}"><title>{escape(in_one_line(said))}</title>'
        f'<rect class="{_colour(frame)}" x="{x:.2f}" y="{top}" width="{width:.2f}"'
        f' height="{ROW - 1}"/><text x="{x + 3:.2f}" y="{top + 13}">{escape(clipped(name, width))}</text></g>'
    )


def _colour(frame: Frame) -> str:
    """Return the phase that takes most of a frame's time, or ``mixed`` if none takes ``_MOST`` of it."""
    [(phase, ns)] = frame.by_phase.most_common(1)
    return phase if ns >= _MOST * frame.ns else "mixed"


def clipped(name: str, width: float) -> str:
    """Clip a name to a box of ``width`` pixels."""
    room = int((width - 6) / LETTER)
    if len(name) <= room:
        return name
    return f"{name[: room - 1]}…" if room >= 3 else ""


def _style() -> str:
    ground = ".ground {{ fill: {page}; }} text {{ fill: {ink}; }} g rect {{ stroke: {page}; }}"
    return "\n".join(
        [
            f"text {{ font: 11px ui-monospace, Menlo, Consolas, monospace; }} {ground.format(**LIGHT)}",
            "svg { width: 100%; height: auto; display: block; }",
            "g { cursor: pointer; } g text { pointer-events: none; } .head, .found text { font-weight: bold; }",
            "g rect { fill-opacity: 0.4; stroke-width: 0.5; } g:hover rect { fill-opacity: 0.7; }",
            "g.above rect { fill-opacity: 0.15; } g.found rect { fill-opacity: 0.95; }",
            f"@media (prefers-color-scheme: dark) {{ {ground.format(**DARK)} }}",
            f".mixed {{ fill: {LIGHT['chart-axis']}; }} {style_of_phases()}",
        ]
    )
