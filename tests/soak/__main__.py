"""``python -m tests.soak``: check agreement of every implementation on bundled scenarios, seed after seed.

Prints a line for each disagreement and, at the end, how near to its budget each implementation came. Exit code 1 where
anything disagreed or broke.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TENSORS = ("out", "lse", "dq", "dk", "dv")
HEALTHY = ("ok", "unsupported", "unavailable", "skipped")


def bundled() -> list[str]:
    """Names of all bundled scenarios."""
    listed = subprocess.run(
        [sys.executable, "-m", "attnbench", "list", "scenarios", "--json"], check=True, capture_output=True, text=True
    )
    return list(json.loads(listed.stdout))


def records(scenario: str, seed: int, extra: list[str]) -> list[dict[str, Any]]:
    """Records of one check."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        path = Path(folder) / "run.jsonl"
        command = [
            sys.executable,
            "-m",
            "attnbench",
            "check",
            scenario,
            "--seed",
            str(seed),
            "--out",
            str(path),
            *extra,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not path.exists():
            raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "record"]


def main() -> int:
    """Go through seeds and scenarios."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--scenario", action="append", help="repeatable; default: all that are bundled")
    arguments, extra = parser.parse_known_args()
    counts: collections.Counter[str] = collections.Counter()
    nearest: dict[tuple[str, str], tuple[float, str]] = {}
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for scenario in arguments.scenario or bundled():
            for record in records(scenario, seed, extra):
                counts[record["status"]] += 1
                if record["status"] not in HEALTHY:
                    sys.stdout.write(f"{record['status']}: {record['repro']}\n    {record['reason']}\n")
                for tensor in TENSORS:
                    ratio, key = record[f"{tensor}_error_ratio"], (record["implementation"], tensor)
                    if ratio is not None and ratio > nearest.get(key, (0.0, ""))[0]:
                        nearest[key] = (ratio, record["repro"])
        sys.stdout.write(f"seed {seed}: {dict(counts)}\n")
        sys.stdout.flush()
    for (implementation, tensor), (ratio, repro) in sorted(nearest.items(), key=lambda item: -item[1][0]):
        sys.stdout.write(f"{ratio:8.3f} of the budget  {implementation:<28} {tensor:<4} {repro}\n")
    return 0 if all(status in HEALTHY for status in counts) else 1


if __name__ == "__main__":
    sys.exit(main())
