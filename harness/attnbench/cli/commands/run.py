"""``attnbench run``, ``check`` and ``merge``: run a scenario or a single case, and join shards."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from attnbench import api
from attnbench.cli.options import (
    Cells,
    DryRun,
    Force,
    Json,
    Ranks,
    RunOut,
    Scenario,
    Seed,
    Switch,
    Verbose,
    Watch,
)
from attnbench.cli.output import print_tables, print_view
from attnbench.cli.streams import OutputError, drop_stdout
from attnbench.errors import UsageError
from attnbench.untrusted.json_text import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.api import Answer, FinishedRun
    from attnbench.api.measuring import Peaks
    from attnbench.runner.planning.request import Request

EXIT_NOT_STORED = 3


def run(
    scenario: Scenario = None,
    *,
    cells: Cells = Cells(),
    ranks: Ranks = None,
    replicates: int | None = None,
    seed: Seed = None,
    cache: Literal["warm", "cold"] = "warm",
    peaks: Literal["auto", "quick", "full", "none"] = "auto",
    shard: str | None = None,
    on: str | None = None,
    out: RunOut = None,
    force: Force = False,
    resume: Path | None = None,
    verbose: Verbose = False,
    watch: Watch = False,
    as_json: Json = False,
    request: Annotated[Path | None, Parameter(show=False)] = None,
    dry_run: DryRun = False,
) -> int:
    """Sweep implementations over a scenario: check agreement, then measure time and memory.

    Prints the path of the run file; before it, on stderr, a table, the fastest first, and a sentence on which that is.
    Without a scenario it runs the single case that the axes describe.

    ```
    attnbench run quick
    attnbench run quick --plugin my_kernel.py -i mine -i torch/sdpa
    attnbench run -i numba -a seqlen=1k,4k -a mask=causal
    ```

    Args:
        replicates: fresh processes for each cell.
        cache: whether a call finds its inputs where the last one left them, or flushed out.
        peaks: how long to measure the machine's own limits; auto is quick before short runs, and takes a CPU's of the
            last day.
        shard: only a part of the plan, K/N such as 3/8, for machines that share it; attnbench merge joins them.
        on: ray or ray://HOST:PORT: the machines of a Ray cluster measure, each whole cases.
        resume: a run file to finish; takes everything else from its header.
        verbose: tell what the harness itself spent its time on, too.
        as_json: print what attnbench show --json prints of the run instead of its path.
        request: a JSON file with what a run file's header keeps as its request, instead of a scenario and options;
            this is how attnbench gate asks for its runs.
    """
    if request is not None:
        return _end(lambda: _requested(request, peaks, out, force=force, verbose=verbose), as_json=as_json)
    if resume is not None and (watch or dry_run):
        raise UsageError("--resume finishes a run, and --watch and --dry-run are about new ones: one of them")
    if dry_run:
        return _print_plan(
            api.plan(
                scenario, **vars(cells), ranks=ranks, replicates=replicates, seed=seed, shard=shard, progress=True
            )
        )  # fmt: skip

    def measure(before: FinishedRun | None = None) -> FinishedRun:
        return api.run(
            scenario, **vars(cells), ranks=ranks, replicates=replicates, seed=seed, cache=cache, peaks=peaks,
            shard=shard, on=on, out=out, force=force or before is not None, resume=resume, verbose=verbose,
            progress=True,
        )  # fmt: skip

    return _end(measure, with_answer=True, as_json=as_json, watch=watch)


def check(
    scenario: Scenario = None,
    *,
    cells: Cells = Cells(),
    ranks: Ranks = None,
    seed: Seed = None,
    thorough: Switch = False,
    stop_at_first: Switch = False,
    verbose: Verbose = False,
    out: RunOut = None,
    force: Force = False,
    dry_run: DryRun = False,
    watch: Watch = False,
    sensitivity: Switch = False,
    as_json: Json = False,
) -> int:
    """Check agreement only: as ``run``, without time and memory.

    Without a scenario and axes, cases are made for each implementation that have every pair of values that it takes,
    and fresh random ones: others each time, unless --seed repeats them.

    ```
    attnbench check --plugin my_kernel.py -i mine --stop-at-first
    attnbench check edge-shapes -i numba/flash
    ```

    Args:
        thorough: every triple instead of every pair: ten minutes instead of one.
        stop_at_first: skip what is left of an implementation once it disagrees.
        verbose: tell how many pairs are impossible, too, and what the harness itself spent its time on.
        sensitivity: instead of implementations, try known-wrong ones: which does the scenario catch?
        as_json: print what attnbench show --json prints of the run instead of its path.
    """
    if sensitivity:
        caught = api.sensitivity(scenario, axis=cells.axis, seed=seed, progress=True)
        print_view(caught.view, "json" if as_json else "terminal")
        return 0
    if dry_run:
        return _print_plan(
            api.plan(
                scenario, **vars(cells), ranks=ranks, seed=seed, only_agreement=True, thorough=thorough, progress=True
            )
        )  # fmt: skip

    def measure(before: FinishedRun | None = None) -> FinishedRun:
        return api.check(
            scenario, **vars(cells), ranks=ranks, seed=before.file.header.seed if before else seed, thorough=thorough,
            stop_at_first=stop_at_first, verbose=verbose, out=out, force=force or before is not None, progress=True,
        )  # fmt: skip

    return _end(measure, as_json=as_json, watch=watch)


def merge(
    runs: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path,
    across: Literal["machines"] | None = None,
    force: Force = False,
) -> int:
    """Make one run file of the shards that machines have measured side by side.

    Prints its path. Every shard has to be there, of the same code and versions; exit code 5 where one lacks records. A
    shard is what attnbench run SCENARIO --shard 1/2 writes.

    ```
    attnbench merge part1.jsonl part2.jsonl --out scaling.jsonl
    attnbench merge epyc.jsonl xeon.jsonl --across machines --out both.jsonl
    ```

    Args:
        runs: run files of attnbench run --shard, in any order.
        out: path of the run file that they become.
        across: machines: of each kind of machine a whole run, in one file or in shards.
    """
    made = api.merge(runs, out=out, across=across, force=force)
    for said in made.messages:
        sys.stderr.write(f"attnbench: {said}\n")
    sys.stdout.write(f"{made.path}\n")
    return made.exit_code


def _requested(path: Path, peaks: Peaks, out: Path | None, *, force: bool, verbose: bool) -> FinishedRun:
    from attnbench.api.measuring import begin
    from attnbench.api.progress import Log

    command = ["run", "--request", str(path)]
    return begin(_stored_request(path), Log(progress=True, verbose=verbose), command, peaks=peaks, out=out, force=force)


def _stored_request(path: Path) -> Request:
    """Read a request from its file."""
    from attnbench.runner.planning.request import request_from

    try:
        return request_from(parse_json(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no request as a run file's header keeps it: {error}") from error


def _end(
    measure: Callable[..., FinishedRun], *, with_answer: bool = False, as_json: bool = False, watch: bool = False
) -> int:
    """Measure once, or whenever a plug-in changes, and print each run, including an interrupted one."""
    from attnbench.cli.watching import watch as measure_again

    def show(finished: FinishedRun) -> int:
        if with_answer and finished.exit_code != EXIT_NOT_STORED:
            print_tables(finished.answer, sys.stderr)
        return _print_run(finished, as_json=as_json)

    try:
        return measure_again(measure, show) if watch else show(measure())
    except api.RunInterrupted as stopped:
        return _print_run(stopped.run, as_json=as_json)


def _print_run(finished: FinishedRun, *, as_json: bool) -> int:
    """Print the run file's path or its content, and return the run's exit code even if stdout cannot be written."""
    try:
        if as_json:
            print_view(finished.view, "json")
        else:
            sys.stdout.write(f"{finished.path}\n")
        sys.stdout.flush()
    except OutputError as error:  # such as after SIGHUP: the terminal is gone
        sys.stderr.write(f"attnbench: the run is in {finished.path}; {error}\n")
    except BrokenPipeError:
        drop_stdout()
    return finished.exit_code


def _print_plan(plan: Answer) -> int:
    for row in plan.view.rows:
        if row["status"] is None:
            taken = f"{row['estimate_s']:.1f} s"
            sys.stdout.write(f"{taken:>8}  {row['device']:<4}  {row['implementation']:<28}  {row['case']}\n")
    sys.stderr.write(f"{plan.view.facts['sentence']}\n")
    return 0
