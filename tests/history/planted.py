"""``make history-planted``: plants a regression of 8 % in one of nine commits, and searches it with ``history find``.

Run it on an idle machine. Prints the commands' output; exit code 0 if only the planted commit was named.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

from tests.history.repository import KERNEL, Repository

COMMITS = 9
SLOWED = '''
from time import perf_counter_ns

@attention("mine/spinning", framework="numpy", dtypes=["float32"])
def spinning(q, k, v, case):
    """Spins for a share of what its own call has just taken."""
    start = perf_counter_ns()
    out = plain(q, k, v, case)
    end = perf_counter_ns()
    until = end + SHARE * (end - start)
    while perf_counter_ns() < until:
        pass
    return out
'''
SCENARIO = """
description = "Four lengths of two kernels in NumPy."
[limits]
min_samples = 30
max_samples = 30
[axes]
seqlen = [128, 192, 256, 384]
heads = [4]
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.history.planted", description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder for the repository")
    parser.add_argument("--share", type=float, default=0.08)
    parser.add_argument("--seed", type=int, default=0, help="chooses the commit")
    given = parser.parse_args()
    repository = Repository(given.folder)
    (given.folder / "four.toml").write_text(SCENARIO)
    at = random.Random(given.seed).randrange(2, COMMITS - 1)
    for number in range(COMMITS):
        share = given.share if number >= at else 0.0
        kernel = f"{KERNEL}{SLOWED.replace('SHARE', str(share))}# {number}\n"
        repository.commit(f"Step {number}", kernel=kernel)
    cells = ["four.toml", "-i", "^mine/", "--cache-dir", "cache"]
    run(given.folder, "add", *cells, "--since", repository.commits[0])
    found = run(given.folder, "find", *cells, "--format", "json")
    named = {row["revision"] for row in json.loads(found)["rows"]}
    sys.stdout.write(f"planted: {repository.commits[at][:10]} Step {at}; named: {sorted(one[:10] for one in named)}\n")
    return 0 if named == {repository.commits[at]} else 1


def run(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "attnbench", "history", *words]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
