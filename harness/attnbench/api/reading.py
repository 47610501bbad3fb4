"""``attnbench.show``, ``compare``, ``report`` and ``merge``: read run files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnbench.api.results import ComparedRuns, FinishedRun, Report, Run
from attnbench.errors import UsageError
from attnbench.store.folder import latest_run

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from attnbench.store.reader import RunFile

Across = Literal["machines"]
EXIT_CELLS_MISSING = 5


def show(run: str | os.PathLike[str] | None = None, *, baseline: str | None = None) -> Run:
    """Show a run: times, memory and agreement case by case, and why cells are not ok.

    Args:
        run: a run file; default the latest of results/runs.
        baseline: implementation that speed-ups are relative to; default the scenario's, or where it was not run
            the one that was timed most often, a plug-in's only for want of others.

    Raises:
        UsageError: the file cannot be read, or has no such baseline.
    """
    found = Run(latest_run() if run is None else Path(run), baseline=baseline)
    found.view  # noqa: B018 - errors are raised here, not when the answer is first shown
    return found


def compare(
    run: str | os.PathLike[str] | None = None,
    other: str | os.PathLike[str] | None = None,
    *,
    baseline: str | None = None,
    across: Across | None = None,
) -> ComparedRuns:
    """Compare the implementations of a run with a baseline, or a second run with a first, cell by cell.

    Of a run that machines of several kinds share, what is compared meets within one kind.

    Args:
        run: a run file, default the latest of results/runs that has times; with a second one, the reference.
        other: a second run file.
        baseline: within one run, the implementation that speed-ups are relative to; default as of :func:`show`.
        across: ``"machines"``: instead, kinds of machines with each other: which machine and which implementation for
            each case that several have timed.

    Returns:
        Speed-ups; ``ok`` is whether there is a pair of cells to compare.

    Raises:
        UsageError: a file cannot be read, there is no such baseline, or ``across`` is given for one kind of machine.
    """
    from attnbench.store.machines import by_machine
    from attnbench.store.reader import read_run
    from attnbench.views.compare import compare_implementations, compare_runs
    from attnbench.views.machines import across_view, comparison_view

    first_run = latest_run(timed=True) if run is None else Path(run)
    files = [read_run(first_run), *([] if other is None else [read_run(Path(other))])]
    if baseline is not None and (other is not None or across is not None):
        raise UsageError("--baseline is for one run; of two runs the first is the baseline")
    machines = [by_machine(one) for one in files]
    if across is not None:
        first, *others = _several([one for of_file in machines for one in of_file])
        compared = [compare_runs(first, one) for one in others]
        return ComparedRuns(lambda: across_view([first, *others], compared), compared, files)
    if other is None:
        pairs = [(one, compare_implementations(one, baseline)) for one in machines[0]]
    else:
        pairs = [(after, compare_runs(before, after)) for before, after in _of_one_kind(*machines)]
    return ComparedRuns(lambda: comparison_view(pairs), [comparison for _, comparison in pairs], files)


def report(
    *runs: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    baseline: str | None = None,
    across: Across | None = None,
    history: bool = False,
    force: bool = False,
) -> Report:
    """Write a report of one or several runs: index.html, which opens offline, and report.md.

    Beside them lie the charts as SVG and PNG, and every number as CSV and Parquet.

    Args:
        runs: run files; default the latest of results/runs.
        out: folder of the report; default ``reports/runs/NAME-OF-THE-RUN-FILE``.
        baseline: implementation that speed-ups are relative to; default as of :func:`show`.
        across: ``"machines"``: kinds of machines are compared with each other, too: which machine and which
            implementation for each case.
        history: show how each cell went over commits, as the history of this machine has it.
        force: replace a report that is there already.

    Returns:
        The report: ``path`` of its page, ``frame`` of the records.

    Raises:
        UsageError: a run cannot be read, the folder exists, or the extra ``report`` is not installed.
    """
    from attnbench.api.history.reading import of_this_machine
    from attnbench.store.machines import by_machine
    from attnbench.store.reader import read_run
    from attnbench.views.report.write import write_report

    paths = list(map(Path, runs)) or [latest_run()]
    files = [read_run(path) for path in paths]
    if across is not None:
        _several([one for file in files for one in by_machine(file)])
    folder = out or Path("reports/runs") / (paths[0].stem if str(paths[0]) != "-" else "stdin")
    commits = of_this_machine()[1] if history else None
    written = write_report(
        files, Path(folder), force=force, baseline=baseline, history=commits, across_machines=across is not None
    )
    return Report(written, files)


def merge(
    runs: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    across: Across | None = None,
    force: bool = False,
) -> FinishedRun:
    """Make one run of all shards of one, measured beside each other; records keep their ``run_id``, and so the machine.

    Args:
        runs: the run files of ``attnbench run --shard 1/N`` to ``N/N``, in any order.
        out: path of the run file that they become.
        across: ``"machines"``: of each kind of machine a whole run, in one file or in shards, so that each cell has a
            record of each kind.
        force: replace what is there already.

    Returns:
        The run; ``exit_code`` is 5 if a shard lacks records.

    Raises:
        UsageError: a file cannot be read or written, a shard is missing or occurs twice, or two shards differ.
    """
    from attnbench.runner.planning.merge import merged
    from attnbench.store.reader import read_run
    from attnbench.store.writer import write_whole

    read, path = [read_run(Path(run)) for run in runs], Path(out)
    lines = merged(read, across_machines=across is not None)
    if path.exists() and any(path.samefile(run) for run in runs if str(run) != "-"):
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


def _several(machines: Sequence[RunFile]) -> Sequence[RunFile]:
    """Return the runs, if they are of more than one kind of machine.

    Raises:
        UsageError: they are not.
    """
    if len({one.header.machine_key for one in machines}) < 2:
        raise UsageError("--across machines compares kinds of machines, and all records are of one")
    return machines


def _of_one_kind(before: Sequence[RunFile], after: Sequence[RunFile]) -> list[tuple[RunFile, RunFile]]:
    """Pair the parts of two runs by kind of machine, or the whole runs if each has only one kind.

    Raises:
        UsageError: they have no kind of machine in common.
    """
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    firsts = {one.header.machine_key: one for one in before}
    found = [(firsts[key], one) for one in after if (key := one.header.machine_key) in firsts]
    if not found:
        raise UsageError("the runs have no kind of machine in common: --across machines compares them all the same")
    return found
