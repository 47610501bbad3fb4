"""``python -m tests.first_minute``: measures the walks on this machine, and writes their table.

The caches of attnbench and of the compilers start as empty folders, so that nothing is left from earlier runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attnbench.machine.hardware.cpu import cpu_model

KERNELS = Path(__file__).with_name("kernels.py")
ONE_CELL = ("-p", str(KERNELS), "-i", "^mine/three-lines$", "-a", "seqlen=128")
CACHES = ("ATTNBENCH_CACHE", "NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")
PAGE = """# The first minute

How long people wait, measured by `{command}` on {machine} with {count} processors; the load was
{load} when it began. The aims are for two idle AVX2 cores. Processor time is that of all processes: what it costs, also
where other work makes the wall time longer.

| what | command | aim | wall time | processor time | exit code |
| --- | --- | ---: | ---: | ---: | ---: |
{rows}

"First" is with empty caches; "again" is the same command once more, the plug-in unchanged; "edited": its file changed.
"""


@dataclasses.dataclass(frozen=True)
class Walk:
    """A command that a user waits for."""

    what: str
    words: tuple[str, ...]
    aim_s: float | None = None
    edits: bool = False


CYCLE = (
    Walk("one-cell check, first", ("check", *ONE_CELL)),
    Walk("one-cell check, edited", ("check", *ONE_CELL), 3, edits=True),
    Walk("one-cell check, again", ("check", *ONE_CELL), 1),
    Walk("one-cell run, first", ("run", *ONE_CELL)),
    Walk("one-cell run, again", ("run", *ONE_CELL), 5),
    Walk("wrong kernel over edge-shapes", ("check", "edge-shapes", "-p", str(KERNELS), "-i", "^mine/no-scale$"), 40),
)
FIRST_RUN = (
    Walk("the scenario `quick`, first", ("run", "quick"), 90),
    Walk("its report", ("report", "--force")),
    Walk("the scenario `quick`, again", ("run", "quick"), 40),
)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="the page to write; default none")
    parser.add_argument("--cycle", action="store_true", help="only the cycle of a kernel's author")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    walks = CYCLE if arguments.cycle else (*FIRST_RUN, *CYCLE)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(walk, Path(folder)) for walk in walks]
    command = "python -m tests.first_minute --cycle" if arguments.cycle else "make first-minute"
    page = PAGE.format(
        command=command, machine=cpu_model(), count=os.cpu_count(), load=f"{load:.1f}", rows="\n".join(rows)
    )
    sys.stdout.write(page)
    if arguments.page:
        arguments.page.write_text(page)


def measured(walk: Walk, folder: Path) -> str:
    """Run one command in the folder, and return its line of the table."""
    plugin = folder / KERNELS.name
    if walk.edits or not plugin.exists():
        plugin.write_text(f"{KERNELS.read_text()}# {time.monotonic_ns()}\n")
    words = [word.replace(str(KERNELS), KERNELS.name) for word in walk.words]
    variables = {**os.environ, **{name: str(folder / "cache" / name) for name in CACHES}}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "attnbench", *words]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, check=False)
    wall_s = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    aim = f"{walk.aim_s:g} s" if walk.aim_s else ""
    line = f"attnbench {' '.join(words)}"
    row = f"| {walk.what} | `{line}` | {aim} | {wall_s:.1f} s | {spent_s:.1f} s | {done.returncode} |"
    sys.stderr.write(f"{row}\n")
    return row


if __name__ == "__main__":
    main()
