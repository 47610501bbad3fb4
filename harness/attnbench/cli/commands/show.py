"""``attnbench show``: show the content of a run file."""

from __future__ import annotations

from attnbench import api
from attnbench.cli.options import Baseline, Format, Json, RunPath  # noqa: TC001 - cyclopts reads them
from attnbench.cli.output import latest_run, print_view


def show(
    run: RunPath | None = None,
    /,
    *,
    baseline: Baseline = None,
    form: Format = "terminal",
    as_json: Json = False,
) -> int:
    """Show a run: times, memory and agreement case by case, and why cells are not ok.

    ```
    attnbench show                                # the latest run
    attnbench show results/reference/quick.jsonl -f markdown
    ```

    Args:
        run: a run file; - is standard input; default the latest of results/runs.
    """
    print_view(api.show(latest_run() if run is None else run, baseline=baseline).view, "json" if as_json else form)
    return 0
