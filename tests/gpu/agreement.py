"""Part 1: known faults, then agreement of everything that runs on the GPU, in as many processes as there are cores."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from attnbench.registry.discover import find
from attnbench.runner.covering import coverage_lines
from attnbench.runner.request import request_from
from attnbench.store.reader import read_run
from tests.gpu.records import records_of, short, used_budget

HERE = Path(__file__).parent
SHARDS = {"triton/flash": 8, "gluon/flash": 2, "torch/flex": 3}
"""Of what compiles for seconds for each case."""
SEED = "25"
ENDS_AS = {
    "faults/device-assert": "error",
    "faults/endless": "timeout",
    "faults/last-key": "wrong",
    "faults/unwritten": "wrong",
    "faults/remembered": "wrong",
}
STATUSES = ("ok", "undecided", "wrong", "invalid", "error", "timeout", "crashed", "out_of_memory")
_GRACE_S = 20


@dataclasses.dataclass(frozen=True)
class Check:
    """One process."""

    path: Path
    words: tuple[str, ...]

    def command(self) -> list[str]:
        """Begins, or goes on."""
        begun = self.path.exists()
        words = ("run", "--resume", str(self.path)) if begun else (*self.words, "--out", str(self.path))
        return [sys.executable, "-m", "attnbench", *words]


def agreement(folder: Path, seconds: float, device: str = "cuda", include: str = "") -> list[str]:
    """Run the checks for so long; the lines that say how it went."""
    known = [faults(folder)] if device == "cuda" else []
    checks = [*known, *checks_of(folder, device, include)]
    run_all(checks, folder, time.monotonic() + seconds)
    return [*told_of_faults(folder), *told_of_checks(checks[len(known) :])]


def faults(folder: Path) -> Check:
    """The known faults."""
    plugin = HERE.parent / "plugins/gpu_faults.py"
    words = ("run", str(HERE / "faults.toml"), "-p", str(plugin), "-i", "^faults/", "--peaks", "none")
    return Check(folder / "faults.jsonl", words)


def checks_of(folder: Path, device: str, include: str) -> list[Check]:
    """A process for each implementation on the device that can be imported here, and several for what compiles long."""
    checks = []
    for found in find(()):
        said = found.declaration
        if said is None or device not in said.devices or found.unavailable is not None:
            continue
        if not re.search(include, found.name):
            continue
        shards = SHARDS.get(found.name, 1)
        for number in range(1, shards + 1):
            path = folder / f"check-{found.name.replace('/', '-')}-{number}.jsonl"
            which = ("-d", device, "-i", f"^{re.escape(found.name)}$", "--shard", f"{number}/{shards}")
            checks.append(Check(path, ("check", *which, "--seed", SEED, "--threads", "1")))
    return sorted(checks, key=lambda check: "triton" not in check.path.name and "gluon" not in check.path.name)


def run_all(checks: list[Check], folder: Path, until: float) -> None:
    """At most a process for each core; what is not done in time is asked to end, and can be resumed."""
    waiting = list(checks)
    running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
    while (waiting or running) and time.monotonic() < until:
        running = [(process, log) for process, log in running if process.poll() is None]
        while waiting and len(running) < (os.cpu_count() or 1):
            check = waiting.pop(0)
            log: IO[bytes] = check.path.with_suffix(".log").open("ab")
            process = subprocess.Popen(
                check.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            running.append((process, log))
        time.sleep(0.2)
    for process, _ in running:
        process.send_signal(signal.SIGTERM)
    ends = time.monotonic() + _GRACE_S
    for process, log in running:
        try:
            process.wait(max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def told_of_faults(folder: Path) -> list[str]:
    """How each known fault ended, and whether as it must."""
    lines = ["known faults:"]
    for record in records_of(folder / "faults.jsonl"):
        name, status = record["implementation"], record["status"]
        verdict = "as it must" if status == ENDS_AS[name] else f"NOT as it must: {ENDS_AS[name]}"
        lines.append(f"  {name:<24}{status:<10}{verdict}  {short(record['reason'])}")
    return lines


def told_of_checks(checks: list[Check]) -> list[str]:
    """For each implementation its counts, the largest share of its budget that was used, coverage, and what failed."""
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
    """The first of each kind, and how many there are."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = collections.defaultdict(list)
    for record in records:
        if record["status"] in STATUSES[2:]:
            kinds[record["status"], re.sub(r"[0-9.e+-]+", "#", short(record["reason"]))].append(record)
    ordered = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    return [
        f"    {status} x {len(those)}: {short(those[0]['reason'])} [{those[0]['repro'][-140:]}]"
        for (status, _), those in ordered[:4]
    ]
