"""Part 2: runs the scenario `hopper`, or named shapes of it, until the time is over, and prints its table."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from attnbench.store.header import Header
from attnbench.store.reader import RunFileError, read_run
from tests.gpu.records import short, used_budget

IMPLEMENTATIONS = ("triton/flash", "gluon/flash", "torch/sdpa-cudnn", "flash-attn/3-fwd")
BASELINE = "torch/sdpa-cudnn"


def table(folder: Path, seconds: float, scenario: str = "hopper") -> list[str]:
    """Run or resume the scenario, and return lines that compare with cuDNN in the same run."""
    path = folder / f"{Path(scenario).stem}.jsonl"
    names = [word for name in IMPLEMENTATIONS for word in ("-i", f"^{name}$")]
    words = ["--resume", str(path)] if path.exists() else [scenario, *names, "-d", "cuda", "--out", str(path)]
    with path.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "attnbench", "run", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return lines_of(path)


def card_of(header: Header) -> str:
    """Return a line on the card and its peaks."""
    name = next((gpu["name"] for gpu in header.environment["gpus"]), "no GPU")
    peaks = header.peaks.get("cuda", {})
    rates = ", ".join(f"{dtype} {rate:.0f} TFLOP/s" for dtype, rate in peaks.get("tflops", {}).items())
    return f"{name}; peaks: {rates}, copy {peaks.get('gbytes_per_s') or 0:.0f} GB/s"


def lines_of(path: Path) -> list[str]:
    """Return lines by case: each implementation's median, its rate, and the baseline's time over its own."""
    try:
        run = read_run(path)
    except (OSError, RunFileError) as error:
        return [f"no run: {error}"]
    medians = {(r["case_id"], r["implementation"]): r["time_median_ns"] for r in run.records}
    kept = [record for record in run.records if record["status"] != "unsupported"]
    kept.sort(key=lambda record: (str(record["cell_tags"]), record["implementation"]))
    return [card_of(run.header), *(line_of(one, medians.get((one["case_id"], BASELINE))) for one in kept)]


def line_of(record: dict[str, Any], baseline_ns: float | None) -> str:
    """Return the line of a cell."""
    where = f"{','.join(record['cell_tags']):<28}{record['implementation']:<18}{record['status']:<9} "
    median_ns = record["time_median_ns"]
    if median_ns is None:
        return where + short(record["reason"])
    rates = f"{record['tflops'] or 0:7.1f} TFLOP/s {record['gbytes_per_s'] or 0:7.0f} GB/s"
    ratio = f"{baseline_ns / median_ns:.3f} of cuDNN" if baseline_ns else ""
    return (
        f"{where}{median_ns / 1e3:9.1f} us {rates}  {ratio:<15} budget {used_budget(record):.2f}  {record['backend']}"[
            :190
        ]
    )
