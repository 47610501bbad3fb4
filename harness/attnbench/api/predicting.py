"""``attnbench.predict``: predict a call on more ranks than were measured, or over other links."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnbench.api.config import read_config
from attnbench.api.results import Answer
from attnbench.api.selection import plugin_texts
from attnbench.errors import UsageError
from attnbench.store.folder import latest_run
from attnbench.units import length
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    import os

    from attnbench.api.selection import Plugins
    from attnbench.predicting.view import Line
    from attnbench.views.document import View

RANKS = "8..1024"
_MOST_RANKS = 2**16
_LONGEST = 2**30
Sizes = int | str | list[int] | list[str] | tuple[int, ...]


class Predicted(Answer):
    """Predictions; they are never written to a run file or read as records."""

    def __init__(self, view: View) -> None:
        super().__init__(lambda: view)


def predict(
    run: str | os.PathLike[str] | None = None,
    *,
    ranks: Sizes | None = None,
    bandwidth: str | None = None,
    latency: str | None = None,
    seqlen: Sizes | None = None,
    link: Literal["own", "shared"] = "own",
    plugin: Plugins | None = None,
) -> Predicted:
    """Predict the time of calls on many ranks from a run's cells of few.

    Args:
        run: a run with cells of ranks, or a scenario, of which the latest run is taken; default the latest run.
        ranks: how many ranks: numbers, or a range of doublings; default ``8..1024``.
        bandwidth: of a link, such as ``50GB/s`` or ``1Gbit/s``; default what the cells tell.
        latency: of a round of messages, such as ``5us``; default what the cells tell.
        seqlen: sequence lengths, as ranks; default the longest that was measured.
        link: ``own`` where each rank has a link, ``shared`` where all ranks send through one, as over the loopback
            interface; of the run and of the prediction.
        plugin: files with implementations of your own, as of :func:`attnbench.run`.

    Returns:
        The answer: ``frame`` has a row for each call, each of the kind ``predicted``.

    Raises:
        UsageError: the run cannot be read or has too few cells of ranks, or an option is malformed.
    """
    import numpy as np

    from attnbench.predicting import model, quantities, reading, view
    from attnbench.registry.discover import find
    from attnbench.store.reader import read_run

    over = {
        "latency_ns": None if latency is None else quantities.nanoseconds(latency),
        "bytes_per_ns": None if bandwidth is None else quantities.bytes_per_ns(bandwidth),
    }
    wanted = _sizes("ranks", RANKS if ranks is None else ranks, _MOST_RANKS)
    lengths = [] if seqlen is None else _sizes("seqlen", seqlen, _LONGEST)
    file = read_run(_path(run))
    found = find((*read_config().plugins, *plugin_texts(plugin)))
    cells = reading.read_cells(file, found, wanted, lengths)
    rng = np.random.default_rng(0)
    every = [one for family in cells.families for one in family.measured]
    network = model.fit_network(every, shared=link == "shared", rng=rng).over(**over)
    lines: list[Line] = []
    refused: list[str] = []
    for family in cells.families:
        name = " ".join(part for part in (family.implementation, family.label) if part)
        try:
            law = model.fit_compute(family.measured, rng)
        except model.PredictError as error:
            refused.append(f"{name}: {error}")
            continue
        for one in family.asked:
            if one.work is None:
                refused.append(f"{name}, seqlen {length(one.length)}, {one.ranks} ranks: {one.refused}")
            else:
                lines.append((family, one, model.predict(law, network, one.work, rng)))
    if not lines:
        raise model.PredictError("; ".join(refused))
    return Predicted(view.predict_view(file.path, cells, network, lines, refused))


def _path(run: str | os.PathLike[str] | None) -> Path:
    from attnbench.sweep.load import bundled_scenarios

    if run is None:
        return latest_run(timed=True)
    is_scenario = not Path(run).exists() and str(run) in bundled_scenarios()
    return latest_run(timed=True, scenario=str(run)) if is_scenario else Path(run)


def _sizes(name: str, given: Sizes, most: int) -> list[int]:
    """Parse numbers, or texts such as ``8..1024`` and ``8,64k``."""
    from attnbench.sweep.sizes import parse_range, parse_size

    several = [given] if isinstance(given, int | str) else [*given]
    found: list[int] = []
    for text in (part for one in several for part in str(one).split(",")):
        try:
            found += parse_range(text) or [parse_size(text) or 0]
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    if not all(0 < size <= most for size in found):
        raise UsageError(f"{name} {shown(given)}: sizes such as 8, 64 or 8..1024 are needed, from 1 to {most:,}")
    return list(dict.fromkeys(found))
