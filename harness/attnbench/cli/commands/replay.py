"""``attnbench replay``: run a captured model's attention on other implementations."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Literal

from attnbench import api
from attnbench.cli.options import (  # noqa: TC001 - cyclopts reads them
    Exclude,
    Force,
    Format,
    Include,
    Plugins,
    RunOut,
    Seed,
    Threads,
    Verbose,
)
from attnbench.cli.output import print_view


def replay(
    capture: Path,
    run: Path | None = None,
    /,
    *,
    include: Include = None,
    exclude: Exclude = None,
    plugin: Plugins = None,
    threads: Threads = None,
    replicates: int | None = None,
    seed: Seed = None,
    cache: Literal["warm", "cold"] = "warm",
    peaks: Literal["auto", "quick", "full", "none"] = "auto",
    out: RunOut = None,
    force: Force = False,
    resume: Path | None = None,
    verbose: Verbose = False,
    chart: Path | None = None,
    form: Format = "terminal",
) -> int:
    """Run a captured model's attention on all implementations, and tell what the model would take on each.

    Prints a line for each implementation, the best of each call, and a sentence; the run file is an ordinary one, and
    stderr tells its path.

    ```
    attnbench replay out
    attnbench replay out -i numba/flash -i torch/sdpa-flash
    attnbench replay out run.jsonl                           # answers from a run of it that is there
    attnbench replay out run.jsonl --chart attention.svg     # and draws it
    ```

    Args:
        capture: the folder that attnbench capture wrote.
        run: a run of it that is there already; nothing is measured then.
        replicates: fresh processes for each cell.
        cache: whether a call finds its inputs where the last one left them, or flushed out.
        peaks: how long to measure the machine's own limits, as of attnbench run.
        resume: a run of this capture to finish; takes everything else from its header.
        verbose: tell what the harness itself spent its time on, too.
        chart: an .svg or .png to draw the time of the model's attention into; the peaks of memory go beside it.
    """
    if chart is not None:
        from attnbench.replaying.chart import require_chart

        require_chart(chart)
    replayed = api.replay(
        capture, run, include=include, exclude=exclude, plugin=plugin, threads=threads, replicates=replicates,
        seed=seed, cache=cache, peaks=peaks, out=out, force=force, resume=resume, verbose=verbose, progress=True,
    )  # fmt: skip
    print_view(replayed.view, form)
    if chart is not None:
        replayed.write_charts(chart)
    if run is None:
        sys.stderr.write(f"attnbench: the run is {replayed.path}\n")
    best, command = replayed.replay.best, replayed.replay.capture.command
    if best is not None and command.startswith("attnbench capture "):
        program = command.partition(" -- ")[2]
        sys.stderr.write(f"Next: attnbench use {best.implementation} --verify -- {program}\n")
    return replayed.exit_code
