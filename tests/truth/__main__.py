"""``make truth``: measures known durations and footprints on this machine, alone and next to other work.

``python -m tests.truth --page docs/truth.md`` writes the tables; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnbench.machine.hardware.cpu import cpu_model
from attnbench.store.reader import read_run
from attnbench.units import duration, number, size
from tests.busy_core import busy_core
from tests.truth.truth_kernels import DURATIONS_US, FOOTPRINTS_KIB

HERE = Path(__file__).parent
WITHIN = {"alone": (0.005, 256 * 1024), "beside a busy core": (0.02, 256 * 1024)}
"""Largest acceptable errors: of a time, relative to it, and of a footprint, in bytes."""

Found = dict[str, list[dict[str, Any]]]
"""Records by implementation."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind")
    parser.add_argument("--page", type=Path, help="write the tables there, too")
    given = parser.parse_args()
    found = {condition: runs(given.runs, busy=condition != "alone") for condition in WITHIN}
    page = "\n".join(["# Planted durations and footprints", "", about(given.runs), "", *tables(found)]) + "\n"
    sys.stdout.write(page)
    if given.page:
        given.page.write_text(page)
    return 0


def runs(count: int, *, busy: bool) -> Found:
    """Run all kernels ``count`` times."""
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder, busy_core() if busy else contextlib.nullcontext():
        for run_number in range(count):
            path = Path(folder) / f"{run_number}.jsonl"
            subprocess.run(
                [sys.executable, "-m", "attnbench", "run", str(HERE / "truth.toml"), "--plugin",
                 str(HERE / "truth_kernels.py"), "-i", "^truth/", "--peaks", "none", "--out", str(path)],
                check=True,
            )  # fmt: skip
            for record in read_run(path).records:
                found.setdefault(record["implementation"], []).append(record)
    return found


def about(count: int) -> str:
    """Return a paragraph on how it was measured."""
    return (
        f"`make truth`: {count} runs of each kind on {cpu_model()} ({os.cpu_count()} processors), Linux "
        f"{platform.release()}. Each kernel returns a planted time after it was called, or has planted memory filled "
        "at once, beside attention of 16 tokens. The aims: times within 0.5 % alone and within 2 % beside a busy core, "
        "or the record says what disturbed them; footprints within 256 KiB."
    )


def tables(found: dict[str, Found]) -> Iterator[str]:
    """Yield the lines of a table of times and one of footprints."""
    yield from ("| planted | " + " | ".join(f"{name}: medians | largest error | disturbed" for name in found) + " |",)
    yield "|---|" + "---|" * 3 * len(found)
    for microseconds in DURATIONS_US:
        cells = [time_cells(one[f"truth/takes-{microseconds}-us"], 1e3 * microseconds) for one in found.values()]
        yield f"| {duration(1e3 * microseconds)} | " + " | ".join(cells) + " |"
    yield ""
    yield "| planted | " + " | ".join(f"{name}: least | most | largest error" for name in found) + " |"
    yield "|---|" + "---|" * 3 * len(found)
    for kibibytes in FOOTPRINTS_KIB:
        cells = [memory_cells(one[f"truth/fills-{kibibytes}-kib"], 1024 * kibibytes) for one in found.values()]
        yield f"| {size(1024 * kibibytes)} | " + " | ".join(cells) + " |"


def time_cells(records: list[dict[str, Any]], planted_ns: float) -> str:
    """Return cells with the medians, the largest error, and the number of disturbed records."""
    medians = sorted(record["time_median_ns"] for record in records)
    worst = max((median / planted_ns - 1 for median in medians), key=abs)
    disturbed = sum(bool(record["involuntary_switches"] or record["steal_share"]) for record in records)
    span = f"{duration(medians[0], 4)} to {duration(medians[-1], 4)}"
    return f"{span} | {100 * worst:+.2f} % | {disturbed} of {len(records)}"


def memory_cells(records: list[dict[str, Any]], planted: int) -> str:
    """Return cells with the smallest and largest footprint, and the largest error in KiB."""
    peaks = sorted(record["memory_peak_bytes"] for record in records)
    worst = max((peak - planted for peak in peaks), key=abs)
    return f"{size(peaks[0], 4)} | {size(peaks[-1], 4)} | {number(worst / 1024, 3)} KiB"


if __name__ == "__main__":
    sys.exit(main())
