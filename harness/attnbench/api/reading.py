"""``attnbench.show``, ``compare`` and ``report``: what a run file holds; ``merge`` makes one of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.api.results import ComparedRuns, FinishedRun, Report, Run
from attnbench.errors import UsageError
from attnbench.store.folder import latest_run

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

EXIT_CELLS_MISSING = 5


def show(run: str | os.PathLike[str] | None = None, *, baseline: str | None = None) -> Run:
    """A run: times, memory and agreement case by case, and why cells are not ok.

    Args:
        run: a run file; default the latest of results/runs.
        baseline: implementation that speed-ups are relative to; default the scenario's, or where it was not run
            the one that was timed most often, a plug-in's only for want of others.

    Raises:
        UsageError: when it cannot be read, or has no such baseline.
    """
    found = Run(latest_run() if run is None else Path(run), baseline=baseline)
    found.view  # noqa: B018 - a mistake is told here, not when the answer is first shown
    return found


def compare(
    run: str | os.PathLike[str] | None = None,
    other: str | os.PathLike[str] | None = None,
    *,
    baseline: str | None = None,
) -> ComparedRuns:
    """Compare the implementations of a run with a baseline, or a second run with a first, cell by cell.

    Args:
        run: a run file, default the latest of results/runs that has times; with a second one, the reference.
        other: a second run file.
        baseline: within one run, the implementation that speed-ups are relative to; default as of :func:`show`.

    Returns:
        Speed-ups; ``ok`` is whether there is a pair of cells to compare.

    Raises:
        UsageError: when a file cannot be read, or there is no such baseline.
    """
    from attnbench.store.reader import read_run
    from attnbench.views.compare import compare_implementations, compare_runs

    if other is not None and baseline is not None:
        raise UsageError("--baseline is for one run; of two runs the first is the baseline")
    reference = read_run(latest_run(timed=True) if run is None else Path(run))
    if other is None:
        return ComparedRuns(compare_implementations(reference, baseline), [reference])
    subject = read_run(Path(other))
    return ComparedRuns(compare_runs(reference, subject), [reference, subject])


def report(
    *runs: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    baseline: str | None = None,
    history: bool = False,
    force: bool = False,
) -> Report:
    """Write a report of one or several runs: index.html, which opens offline, and report.md.

    Beside them lie the charts as SVG and PNG, and every number as CSV and Parquet.

    Args:
        runs: run files; default the latest of results/runs.
        out: folder of the report; default ``reports/runs/NAME-OF-THE-RUN-FILE``.
        baseline: implementation that speed-ups are relative to; default as of :func:`show`.
        history: show how each cell went over commits, as the history of this machine has it.
        force: replace a report that is there already.

    Returns:
        The report: ``path`` of its page, ``frame`` of the records.

    Raises:
        UsageError: when a run cannot be read, the folder exists, or the extra ``report`` is not installed.
    """
    from attnbench.api.history.reading import of_this_machine
    from attnbench.store.reader import read_run
    from attnbench.views.report import write_report

    paths = list(map(Path, runs)) or [latest_run()]
    files = [read_run(path) for path in paths]
    folder = out or Path("reports/runs") / (paths[0].stem if str(paths[0]) != "-" else "stdin")
    commits = of_this_machine()[1] if history else None
    return Report(write_report(files, Path(folder), force=force, baseline=baseline, history=commits), files)


def merge(runs: Sequence[str | os.PathLike[str]], *, out: str | os.PathLike[str], force: bool = False) -> FinishedRun:
    """Make one run of all shards of one, measured beside each other; records keep their ``run_id``.

    Args:
        runs: the run files of ``attnbench run --shard 1/N`` to ``N/N``, in any order.
        out: path of the run file that they become.
        force: replace what is there already.

    Returns:
        The run; ``exit_code`` is 5 where a shard has not got all its records.

    Raises:
        UsageError: when a file cannot be read or written, a shard is missing or there twice, or they differ in what was
            asked for, in code, versions or the kind of machine.
    """
    from attnbench.runner.planning.merge import merged
    from attnbench.store.reader import read_run
    from attnbench.store.writer import write_whole

    read, path = [read_run(Path(run)) for run in runs], Path(out)
    lines = merged(read)
    if any(path.exists() and path.samefile(run) for run in runs):
        raise UsageError(f"{path} is one of the parts: another --out")
    try:
        write_whole(path, lines, force=force)
    except FileExistsError:
        raise UsageError(f"{path} exists already: another --out, or --force") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    said = [warning for run in read for warning in run.warnings]
    complete = all(run.is_complete for run in read)
    return FinishedRun(path, exit_code=0 if complete else EXIT_CELLS_MISSING, messages=said)
