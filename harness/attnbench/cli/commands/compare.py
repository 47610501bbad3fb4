"""``attnbench compare``: compare the implementations of one run, or two runs."""

from __future__ import annotations

from attnbench import api
from attnbench.cli.options import Across, Baseline, Format, Json, RunPath  # noqa: TC001 - cyclopts reads them
from attnbench.cli.output import latest_run, print_view

EXIT_NOT_COMPARABLE = 6


def compare(
    run: RunPath | None = None,
    other: RunPath | None = None,
    /,
    *,
    baseline: Baseline = None,
    across: Across = None,
    form: Format = "terminal",
    as_json: Json = False,
) -> int:
    """Compare the implementations of a run with a baseline, or a second run with a first, cell by cell.

    Of a run that machines of several kinds share, what is compared meets within one kind.

    Exit code 6 when there is no pair of cells to compare.

    ```
    attnbench compare                         # implementations of the latest run
    attnbench compare before.jsonl after.jsonl
    ```

    Args:
        run: a run file, default the latest of results/runs that has times; with a second one, the reference.
        other: a second run file.
    """
    compared = api.compare(latest_run(timed=True) if run is None else run, other, baseline=baseline, across=across)
    print_view(compared.view, "json" if as_json else form)
    return 0 if compared.ok else EXIT_NOT_COMPARABLE
