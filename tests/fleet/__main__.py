"""``python -m tests.fleet``: measures Ray's overhead per cell against a run without Ray; on an idle machine.

Two nodes on this machine share a sweep, and the same sweep runs without Ray. The overhead is the time that a holder
waits between two cases: until its answer has been sent and appended, and the next case has arrived.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fleet.cluster import cluster

SWEEP = (
    "-i",
    "naive/numpy",
    "-i",
    "naive/torch",
    "-a",
    "seqlen=16,20,24,28,32,36,40,44,48,52",
    "-a",
    "dtype=float32,float64",
)
CELLS = 40


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, cluster({}, {}) as made:
        variables = {**os.environ, "RAY_ADDRESS": made.address}
        for name, more in (("without", ()), ("ray", ("--on", "ray")), ("client", ("--on", made.client))):
            out = Path(folder) / f"{name}.jsonl"
            command = [sys.executable, "-m", "attnbench", "run", *SWEEP, "--peaks", "none", *more, "--out", str(out)]
            subprocess.run(command, env=variables, check=True, capture_output=True)
            lines: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
            waited_s = lines[-1]["shares"].get("engine_s", 0.0)
            print(
                f"{name:8} {lines[-1]['wall_s']:6.1f} s, waiting for the engine {1e3 * waited_s / CELLS:5.1f} ms a cell"
            )


if __name__ == "__main__":
    main()
