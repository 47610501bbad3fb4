"""Part 1: known faults, then agreement of everything that runs on the GPU, in several processes at once."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from attnbench.registry.discover import find
from attnbench.runner.planning.covering import coverage_lines
from attnbench.runner.planning.request import request_from
from attnbench.store.reader import read_run
from tests.gpu.records import records_of, short, used_budget

HERE = Path(__file__).parent
FIRST = ("gluon", "triton", "flash-attn", "torch-sdpa")
ENDS_AS = {
    "faults/device-assert": "error",
    "faults/endless": "timeout",
    "faults/last-key": "wrong",
    "faults/unwritten": "wrong",
    "faults/remembered": "wrong",
}
STATUSES = ("ok", "undecided", "wrong", "invalid", "error", "timeout", "crashed", "out_of_memory")
_GRACE_S = 20
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclasses.dataclass(frozen=True)
class Check:
    """A check that runs in its own process."""

    path: Path
    words: tuple[str, ...]

    def command(self) -> list[str]:
        """Return the command line that begins the run, or resumes it."""
        begun = self.path.exists()
        words = ("run", "--resume", str(self.path)) if begun else (*self.words, "--out", str(self.path))
        return [sys.executable, "-m", "attnbench", *words]


def agreement(folder: Path, seconds: float, requests: Path, include: str = "") -> list[str]:
    """Run the checks for at most ``seconds``, and return the lines of the summary."""
    checks, problems = checks_of(requests, folder, include)
    run_all([faults(folder), *checks], time.monotonic() + seconds)
    return [*problems, *told_of_faults(folder), *told_of_checks(checks)]


def faults(folder: Path) -> Check:
    """Return the check of the known faults."""
    plugin = HERE.parent / "plugins/gpu_faults.py"
    words = ("run", str(HERE / "faults.toml"), "-p", str(plugin), "-i", "^faults/", "--peaks", "none")
    return Check(folder / "faults.jsonl", words)


def checks_of(requests: Path, folder: Path, include: str) -> tuple[list[Check], list[str]]:
    """Return checks for the requests by ``tests.gpu.draw`` that can run here, and sentences on unreadable requests."""
    here = {found.name for found in find(()) if found.unavailable is None}
    checks, problems = [], []
    for path in sorted(requests.glob("*.json"), key=lambda path: (order_of(path.stem), path.stem)):
        try:
            (name,) = {cell.split()[1] for cell in request_from(json.loads(path.read_text())).cells}
        except (ValueError, IndexError) as error:
            problems.append(f"{path} is left out: {short(str(error))}")
            continue
        if name in here and re.search(include, name):
            words = ("run", "--request", str(path), "--peaks", "none")
            checks.append(Check(folder / f"check-{path.stem}.jsonl", words))
    if not checks:
        problems.append(f"{requests} holds no request for what is here: make gpu-wheels writes them")
    return checks, problems


def order_of(stem: str) -> int:
    """Return a request's position: the most valuable implementations come first."""
    return next((place for place, name in enumerate(FIRST) if stem.startswith(name)), len(FIRST))


def run_all(checks: list[Check], until: float) -> None:
    """Run the checks, one process per two cores; processes that are not done in time are ended, and can be resumed."""
    waiting = list(checks)
    running: list[subprocess.Popen[bytes]] = []
    while (waiting or running) and time.monotonic() < until:
        running = [process for process in running if process.poll() is None]
        while waiting and len(running) < max(2, (os.cpu_count() or 1) // 2):
            running.append(started(waiting.pop(0)))
        time.sleep(0.2)
    for process in running:
        process.send_signal(signal.SIGTERM)
    ends = time.monotonic() + _GRACE_S
    for process in running:
        try:
            process.wait(max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def started(check: Check) -> subprocess.Popen[bytes]:
    """Start the process of a check, which writes its output to a log next to its run file."""
    with check.path.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            check.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=ONE_THREAD
        )


def told_of_faults(folder: Path) -> list[str]:
    """Return lines on how each known fault ended, and whether that is right."""
    records = records_of(folder / "faults.jsonl")
    lines = ["known faults:" if records else "known faults: none was run"]
    for record in records:
        name, status = record["implementation"], record["status"]
        verdict = "as it must" if status == ENDS_AS[name] else f"NOT as it must: {ENDS_AS[name]}"
        lines.append(f"  {name:<24}{status:<10}{verdict}  {short(record['reason'])}")
    return lines


def told_of_checks(checks: list[Check]) -> list[str]:
    """Return lines on each implementation: counts, the largest used share of a budget, coverage, and failures."""
    of: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    coverage: dict[str, str] = {}
    for check in checks:
        records = records_of(check.path)
        for record in records:
            of[record["implementation"]].append(record)
        if records:
            request = request_from(read_run(check.path).header.request)
            name = records[0]["implementation"]
            coverage[name] = "; ".join(coverage_lines(request, of[name], verbose=False))
    lines = ["", "agreement:"]
    for name, records in sorted(of.items()):
        counts = collections.Counter(record["status"] for record in records)
        used = max((used_budget(record) for record in records if record["status"] == "ok"), default=0.0)
        told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]) or "nothing ran"
        lines.append(f"  {name:<22}{told}; worst {used:.2f} of its budget; {coverage[name].partition(': ')[2]}")
        lines += kinds_of_failures(records)
    silent = [check.path.stem for check in checks if not records_of(check.path)]
    return [*lines, *([f"  without a record: {', '.join(silent)}"] if silent else [])]


def kinds_of_failures(records: list[dict[str, Any]]) -> list[str]:
    """Return the first failure of each kind with the number of such failures."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = collections.defaultdict(list)
    for record in records:
        if record["status"] in STATUSES[2:]:
            kinds[record["status"], re.sub(r"[0-9.e+-]+", "#", short(record["reason"]))].append(record)
    ordered = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    return [
        f"    {status} x {len(those)}: {short(those[0]['reason'])} [{those[0]['repro'][-140:]}]"
        for (status, _), those in ordered[:4]
    ]
