"""``attnbench profile``: find out where the time of a call goes."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations

from attnbench import api
from attnbench.cli.options import Force, Format, Seed, Selection, Switch, Threads
from attnbench.cli.output import print_view


def profile(
    scenario: str | None = None,
    *,
    selection: Selection = Selection(),
    threads: Threads = None,
    seed: Seed = None,
    base: str | None = None,
    head: str | None = None,
    seconds: float = 3.0,
    samples: int = 6000,
    assembly: Switch = False,
    form: Format = "terminal",
    out: Path | None = None,
    force: Force = False,
) -> int:
    """Tell where the time of a call goes, phase by phase and line by line, and what bounds it.

    Each cell is run as ``run`` does; where it agrees it is called again in a process of its own, and sampled. Prints
    the phases of each implementation side by side; the page has lines, functions, a flame graph and a trace. Exit code
    1 when an implementation disagrees with the oracle, 6 when this machine refuses to be sampled.

    ```
    attnbench profile -a seqlen=1k -i numba/flash -i torch/sdpa-flash
    attnbench profile -a seqlen=1k -i numba/flash --base main
    ```

    Args:
        scenario: name of a bundled scenario, path of a .toml file, or a run file, whose cells are run again.
        base: compare the same cells of two sides, phase by phase and line by line: REV, ./DIR, FILE.whl or PLUGIN.py,
            as ``gate`` does.
        head: the other side; default the current folder.
        seconds: how long calls are sampled.
        samples: how many samples there should be, of all threads together.
        assembly: list the hottest instructions too.
        out: folder of the page; default reports/runs/profile-UTC-TIME.
    """
    profiled = api.profile(
        scenario, **vars(selection), threads=threads, seed=seed, base=base, head=head, seconds=seconds,
        samples=samples, assembly=assembly, out=out, force=force, progress=True,
    )  # fmt: skip
    print_view(profiled.view, form)
    sys.stderr.write(f"attnbench: the page is {profiled.path}\n")
    return profiled.exit_code
