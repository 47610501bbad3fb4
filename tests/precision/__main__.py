"""``make precision``: measures how much the figures of attnbench and its peers vary between runs, per second of time.

``python -m tests.precision --repeats 20`` has each tool time the same callables, in turn and in fresh processes, and
appends a line for each to ``results/precision/repeats.jsonl``, so that it can be stopped at any time and continued;
``--summary`` prints a summary of all lines. Nothing else should run meanwhile; ``--busy`` keeps one core busy on
purpose.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attnbench.machine.hardware.cpu import cpu_model
from attnbench.store.reader import read_run
from attnbench.views.cells import cells_of
from attnbench.views.estimates import ratio
from tests.busy_core import busy_core
from tests.precision.precision_kernels import AXES
from tests.precision.summary import BASELINE, page

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
RESULTS = REPOSITORY / "results" / "precision" / "repeats.jsonl"
PYPERF_EVERY = 5
"""pyperf takes a minute, so it runs only in every fifth repeat."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.precision", description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--busy", action="store_true", help="beside a busy core, attnbench alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, help="write the summary there, too")
    parser.add_argument("--summary", action="store_true", help="print what was measured so far, and run nothing")
    given = parser.parse_args()
    given.results.parent.mkdir(parents=True, exist_ok=True)
    for number in range(0 if given.summary else given.repeats):
        with busy_core() if given.busy else contextlib.nullcontext():
            repeat(number, given.results, busy=given.busy)
    lines = [json.loads(line) for line in given.results.read_text().splitlines()]
    of_pairs = given.results.with_name("pairs.jsonl")
    seen = [json.loads(line) for line in of_pairs.read_text().splitlines()] if of_pairs.exists() else []
    text = page(lines, seen, f"{cpu_model()} ({os.cpu_count()} processors), Linux {platform.release()}")
    sys.stdout.write(text)
    if given.page:
        given.page.write_text(text)
    return 0


def repeat(number: int, results: Path, *, busy: bool) -> None:
    """Run each tool once, in an order that depends on the repeat."""
    tools = ["attnbench"] if busy else [name for name in TOOLS if name != "pyperf --fast" or number % PYPERF_EVERY == 0]
    random.shuffle(tools)
    for name in tools:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            found = TOOLS[name](Path(folder))
        line = {"tool": name, "busy": busy, "at": round(time.time()), "wall_s": time.monotonic() - began, **found}
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")


def by_attnbench(folder: Path, *asked: str | Path) -> dict[str, Any]:
    """Return attnbench's values and ratios to the baseline, both with intervals."""
    path = folder / "run.jsonl"
    kernels = HERE / "precision_kernels.py"
    run("attnbench", "run", *(asked or AXES), "--plugin", kernels, "-i", "^precision/", "--out", path)
    cells = {cell.implementation.removeprefix("precision/"): cell for cell in cells_of(read_run(path))}
    timings = {name: cell.timing for name, cell in cells.items() if cell.timing is not None}
    estimates = {name: timing.estimate for name, timing in timings.items()}
    ratios = {name: ratio(timings[name], timings[BASELINE]) for name in timings if name != BASELINE}
    return {
        "ns": {name: one.value for name, one in estimates.items()},
        "intervals": {name: [one.low, one.high] for name, one in estimates.items()},
        "ratios": {name: [one.value, one.low, one.high] for name, one in ratios.items()},
        "machine_drift": next(iter(cells.values())).metrics.machine_drift,
        "heartbeat_ns": next(iter(cells.values())).metrics.heartbeat_ns,
    }


def by_pytest_benchmark(folder: Path) -> dict[str, Any]:
    """Return pytest-benchmark's values, measured in a folder without this repository's conftest."""
    (folder / "test_speed.py").write_text((HERE / "with_pytest_benchmark.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\n")
    run("pytest", "-q", "-p", "no:cacheprovider", folder, f"--benchmark-json={folder / 'found.json'}")
    found = json.loads((folder / "found.json").read_text())["benchmarks"]
    return {"ns": {one["params"]["name"]: 1e9 * one["stats"]["median"] for one in found}}


def by_torch_timer(folder: Path) -> dict[str, Any]:
    """Return the values of torch's timer with its default minimum of 0.2 s."""
    return {"ns": json.loads(run("tests.precision.with_torch_timer"))}


def by_pyperf(folder: Path) -> dict[str, Any]:
    """Return pyperf's values with ``--fast``."""
    import pyperf

    out = folder / "found.json"
    run("tests.precision.with_pyperf", "--fast", "--quiet", "--inherit-environ", "PYTHONPATH", "-o", out)
    suite = pyperf.BenchmarkSuite.load(str(out))
    return {"ns": {one.get_name(): 1e9 * one.median() for one in suite}}


TOOLS: dict[str, Callable[..., dict[str, Any]]] = {
    "attnbench": by_attnbench,
    "attnbench, time only": lambda folder: by_attnbench(folder, HERE / "time_only.toml", "--peaks", "none"),
    "pytest-benchmark": by_pytest_benchmark,
    "torch's Timer": by_torch_timer,
    "pyperf --fast": by_pyperf,
}


def run(module: str, *arguments: str | Path) -> str:
    """Run a module in a fresh process, and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], check=True, capture_output=True, text=True,
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
