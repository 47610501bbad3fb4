"""``make aa``: measures how often a run calls two names of one kernel different, at default settings.

``python -m tests.precision.pairs --runs 7`` runs one kernel under four names at five lengths, 30 pairs per run, and
appends a line for each run to ``results/precision/pairs.jsonl``, so that it can be stopped at any time and continued.
Nothing else should run meanwhile; ``--busy`` keeps one core busy on purpose. A run takes about a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from attnbench.grouping import grouped
from attnbench.store.reader import RunFile, read_run
from attnbench.views.cells import cells_of
from attnbench.views.compare import Pair
from tests.busy_core import busy_core
from tests.precision.__main__ import HERE, RESULTS, run
from tests.precision.pair_kernels import NAMES
from tests.precision.summary import pairs

PAIRS = RESULTS.with_name("pairs.jsonl")
AXES = ("-a", "seqlen=64,128,256,512,1024", "-a", "heads=8", "-a", "head_dim=64")


class Seen(TypedDict):
    """A pair: its names, the length of its case, the ratio with its interval, and the verdict."""

    names: tuple[str, str]
    seqlen: int
    ratio: tuple[float, float | None, float | None]
    difference: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.precision.pairs", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--busy", action="store_true", help="beside a busy core")
    parser.add_argument("--results", type=Path, default=PAIRS)
    given = parser.parse_args()
    for _ in range(given.runs):
        load, began = os.getloadavg()[0], time.monotonic()
        with busy_core() if given.busy else contextlib.nullcontext(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.jsonl"
            chosen = itertools.chain.from_iterable(("-i", name) for name in NAMES)
            run("attnbench", "run", *AXES, "--plugin", HERE / "pair_kernels.py", *chosen, "--out", path)
            seen = list(pairs_of(read_run(path)))
        line = {"busy": given.busy, "at": round(time.time()), "wall_s": time.monotonic() - began, "load": load}
        with given.results.open("a") as file:
            file.write(json.dumps({**line, "pairs": seen}) + "\n")
    print("\n".join(pairs([json.loads(line) for line in given.results.read_text().splitlines()])))


def pairs_of(found: RunFile) -> Iterator[Seen]:
    """Yield every pair of cells of a case, compared as in the views."""
    timed = [cell for cell in cells_of(found) if cell.timing is not None]
    for group in grouped(timed, lambda cell: cell.case_id).values():
        for one, other in itertools.combinations(sorted(group, key=lambda cell: cell.implementation), 2):
            pair = Pair(reference=one, subject=other)
            gain = pair.speedup
            yield {
                "names": (one.implementation, other.implementation),
                "seqlen": one.case.seqlen_q,
                "ratio": (gain.value, gain.low, gain.high),
                "difference": pair.difference,
            }


if __name__ == "__main__":
    main()
