"""Part 4: profiles by Nsight Compute of the two cells of part 2 that are farthest behind cuDNN."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.gpu.records import records_of
from tests.gpu.table import BASELINE

OURS = ("triton/flash", "gluon/flash")
SECTIONS = ("SpeedOfLight", "Occupancy", "WarpStateStats", "SchedulerStats", "MemoryWorkloadAnalysis")
KERNELS = "regex:forward|partial|dk_dv|dq"
_KEPT = (
    "duration", "compute (sm) throughput", "memory throughput", "registers per thread", "achieved occupancy",
    "shared memory", "no eligible", "issued warp", "l2 hit rate", "dram throughput", "stall",
)  # fmt: skip


def profile(folder: Path, seconds: float) -> list[str]:
    """Profile the two cells, and return lines with figures of the kernels that take the time."""
    ncu = shutil.which("ncu")
    if ncu is None:
        return ["ncu is not installed: nothing was profiled"]
    lines: list[str] = []
    records = worst(records_of(folder / "hopper.jsonl"))
    if not records:
        return ["no cell of gpu-2 was timed beside cuDNN: run that first"]
    for record in records:
        words = shlex.split(record["repro"])[1:]
        report = folder / f"ncu-{record['case_id']}.txt"
        checked = folder / f"ncu-{record['case_id']}.jsonl"
        command = [
            ncu, "--target-processes", "all", "--clock-control", "none", "--kernel-name", KERNELS,
            "--launch-skip", "3", "--launch-count", "2", *(w for one in SECTIONS for w in ("--section", one)),
            sys.executable, "-m", "attnbench", "check", *words[1:], "--out", str(checked), "--force",
        ]  # fmt: skip
        lines.append(f"{','.join(record['cell_tags'])} {record['implementation']}")
        if not (report.exists() and figures(report)):
            try:
                with report.open("wb") as out:
                    subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=seconds / 2, check=False)
            except subprocess.TimeoutExpired:
                lines.append(f"  not ended within {seconds / 2:.0f} s")
        lines += figures(report) or [f"  no figures; the end of {report}:", *tail(report)]
    return lines


def worst(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of the two cells that are farthest behind."""
    records = [r for r in records if r["time_median_ns"]]
    baseline = {r["case_id"]: r["time_median_ns"] for r in records if r["implementation"] == BASELINE}
    ours = [r for r in records if r["implementation"] in OURS and r["case_id"] in baseline]
    return sorted(ours, key=lambda r: baseline[r["case_id"]] / r["time_median_ns"])[:2]


def figures(report: Path) -> list[str]:
    """Return the lines of a report that say what bounds a kernel."""
    lines = report.read_text(errors="replace").splitlines()
    return [f"  {line.strip()}" for line in lines if any(word in line.lower() for word in _KEPT)][:40]


def tail(report: Path) -> list[str]:
    """Return the last lines of a report, which say what went wrong."""
    return [f"  {line.strip()[:150]}" for line in report.read_text(errors="replace").splitlines()[-5:]]
