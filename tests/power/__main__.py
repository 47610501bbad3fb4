"""``make gate-power``: runs gates on this machine, a third of them with known faults, the rest on unchanged code.

``python -m tests.power --gates 3`` appends a line for each to ``results/gate-power/gates.jsonl``, so that it can be
stopped at any time and continued; ``--summary`` prints a summary of all lines as Markdown.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from attnbench.store.reader import read_run
from tests.power.other_rules import judge_by_others
from tests.power.power_kernels import fault_of
from tests.power.summary import summary

HERE = Path(__file__).parent
INTERRUPTED = 130
RESULTS = HERE.parents[1] / "results" / "gate-power"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.power", description=__doc__)
    parser.add_argument("--gates", type=int, default=3, help="gates to run now; two of three of unchanged code")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--delta", default="3%")
    parser.add_argument("--page", type=Path, help="write the summary there, too")
    parser.add_argument("--summary", action="store_true", help="print what was measured so far, and run nothing")
    given = parser.parse_args()
    lines = given.results / "gates.jsonl"
    if not given.summary:
        for _ in range(given.gates):
            run_one(lines, given.delta)
    if not lines.is_file():
        parser.error(f"{lines} is not there: nothing was measured yet")
    page = summary([json.loads(line) for line in lines.read_text().splitlines()])
    sys.stdout.write(page)
    if given.page:
        given.page.write_text(page)
    return 0


def run_one(lines: Path, delta: str) -> None:
    """Run one gate; when it is complete, write its line and remove its run files.

    A gate that fails leaves no line, but a sentence on stderr; the next one takes its number.
    """
    number = len(lines.read_text().splitlines()) if lines.is_file() else 0
    kind = "faults" if number % 3 == 2 else "unchanged"
    folder = lines.parent / "now"
    shutil.rmtree(folder, ignore_errors=True)  # left by a gate that was killed
    command = [
        sys.executable, "-m", "attnbench", "gate", str(HERE / "power.toml"), "--base", str(HERE / "base.py"),
        "--head", str(HERE / ("base.py" if kind == "unchanged" else "head.py")), "--measure-identical",
        "--delta", delta, "--seed", str(number), "--out", str(folder), "--json",
    ]  # fmt: skip
    sys.stderr.write(f"{datetime.datetime.now(datetime.UTC):%H:%M:%S} gate {number}: {kind}\n")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode not in (0, 1, 4, 5, 6):
        sys.stderr.write(f"gate {number} ended with exit code {done.returncode}: it does not count\n")
        return
    line = line_of(json.loads(done.stdout), folder, number, kind, done.returncode)
    lines.parent.mkdir(parents=True, exist_ok=True)
    with lines.open("a") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")
    shutil.rmtree(folder)


def line_of(result: dict[str, Any], folder: Path, number: int, kind: str, code: int) -> dict[str, Any]:
    """Return the line of a gate: each cell's verdict, and those of other rules on the same samples."""
    first_two = [one for one in result["rounds"] if one["stage"] == "screen"][:2]
    runs = {side: [read_run(folder / one[side]) for one in first_two] for side in ("base", "head")}
    return {
        "gate": number,
        "kind": kind,
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine_key": result["machine_key"],
        "load_average": runs["base"][0].header.environment["load_average"],
        "exit_code": code,
        "wall_s": result["wall_s"],
        "delta": result["rules"]["delta"],
        "confirmed": any(one["stage"] == "confirm" for one in result["rounds"]),
        "common": [_short(one) for one in result["common"]],
        "verdicts": [_short(one) for one in result["verdicts"]],
        "others": _others(runs) if runs["base"] else [],
    }


def _short(one: dict[str, Any]) -> dict[str, Any]:
    kept = ("implementation", "case_id", "label", "metric", "verdict", "ratio", "q", "detectable", "noise_sd", "pairs")
    return {name: one[name] for name in kept}


def _others(runs: dict[str, list[Any]]) -> list[dict[str, Any]]:
    samples: dict[str, dict[tuple[str, str], list[list[float]]]] = {"base": {}, "head": {}}
    fault: dict[tuple[str, str], str | None] = {}
    for side, of_side in runs.items():
        for run in of_side:
            for record in run.records:
                key = (record["case_id"], record["implementation"])
                fault[key] = fault_of(*(record[name] for name in ("implementation", "seqlen_q", "dtype", "head_dim")))
                if record["time_samples_ns"]:
                    samples[side].setdefault(key, []).append(record["time_samples_ns"])
    return [
        {
            "case_id": key[0],
            "implementation": key[1],
            "fault": fault[key],
            "slower": (
                judge_by_others(samples["base"][key], samples["head"][key])
                if len(samples["base"].get(key, [])) == len(samples["head"].get(key, [])) == 2
                else None
            ),
        }
        for key in fault
    ]


if __name__ == "__main__":
    sys.exit(main())
