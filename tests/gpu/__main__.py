"""``make gpu-1`` to ``gpu-4``: parts of ten minutes each on a GPU, the most valuable first (docs/gpu.md).

Each part ends within its time, stores its results in a folder, and continues there when it is started again. Its
summary is printed last.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from attnbench.transport.host import LocalHost
from tests.gpu.agreement import agreement
from tests.gpu.profile import profile
from tests.gpu.table import table
from tests.gpu.tiles import tiles

MOST_CHARACTERS = 11_000
"""Length of the longest summary, which fits into a terminal's scroll-back or the tail of a log."""
PARTS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "agreement": lambda given: agreement(given.folder, given.seconds, given.requests, given.include),
    "table": lambda given: table(given.folder, given.seconds, given.scenario),
    "tiles": lambda given: tiles(given.folder, given.seconds),
    "profile": lambda given: profile(given.folder, given.seconds),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--seconds", type=float, default=540.0, help="for each part")
    parser.add_argument("--folder", type=Path, default=Path("results/runs/gpu"))
    parser.add_argument("--requests", type=Path, default=Path(".whl/cases"), help="of agreement: from tests.gpu.draw")
    parser.add_argument("--include", default="", help="of agreement: a regular expression")
    parser.add_argument("--scenario", default="hopper", help="of the table")
    given = parser.parse_args()
    if missing := LocalHost().device_unavailable("cuda"):
        parser.error(f"{missing}; nothing was run")
    given.folder.mkdir(parents=True, exist_ok=True)
    failed = False
    if "agreement" in given.parts:
        subprocess.run([sys.executable, "-m", "attnbench", "doctor"], check=False)
    for name in given.parts:
        try:
            lines = PARTS[name](given)
        except Exception:  # noqa: BLE001 - the next part may succeed
            failed, lines = True, traceback.format_exc().splitlines()
        text = "\n".join(lines)[:MOST_CHARACTERS]
        (given.folder / f"{name}.txt").write_text(text + "\n")
        sys.stdout.write(f"\n== {name}\n{text}\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
