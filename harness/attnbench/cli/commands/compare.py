"""``attnbench compare``: implementations of one run with each other, or two runs."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from attnbench.cli.errors import UsageError
from attnbench.cli.output import Format, Json, RunPath, print_view

EXIT_NOT_COMPARABLE = 6


def compare(
    run: RunPath,
    other: RunPath | None = None,
    /,
    *,
    baseline: str | None = None,
    form: Annotated[Format, Parameter(name=["--format", "-f"])] = "terminal",
    as_json: Json = False,
) -> int:
    """Compare the implementations of a run with a baseline, or a second run with a first, cell by cell.

    Exit code 6 when there is no pair of cells to compare.

    Args:
        run: a run file; with a second one, the reference.
        other: a second run file.
        baseline: within one run, the implementation that speed-ups are relative to; default the scenario's.
        form: terminal, markdown, csv or json.
        as_json: short for --format json.
    """
    from attnbench.store.reader import read_run
    from attnbench.views.compare import compare_implementations, compare_runs
    from attnbench.views.compare_view import view_of

    if other is not None and baseline is not None:
        raise UsageError("--baseline is for one run; of two runs the first is the baseline")
    runs = [read_run(path) for path in (run, other) if path is not None]
    comparison = compare_runs(runs[0], runs[1]) if other is not None else compare_implementations(runs[0], baseline)
    print_view(view_of(comparison), "json" if as_json else form)
    return 0 if comparison.pairs else EXIT_NOT_COMPARABLE
