"""``attnbench show``: what a run file holds."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from attnbench.cli.output import Format, Json, RunPath, print_view


def show(
    run: RunPath,
    /,
    *,
    baseline: str | None = None,
    form: Annotated[Format, Parameter(name=["--format", "-f"])] = "terminal",
    as_json: Json = False,
) -> int:
    """Show a run: times, memory and agreement case by case, and why cells are not ok.

    Args:
        run: a run file; - is standard input.
        baseline: implementation that speed-ups are relative to; default the scenario's.
        form: terminal, markdown, csv or json.
        as_json: short for --format json.
    """
    from attnbench.store.reader import read_run
    from attnbench.views.show import show as view_of_run

    print_view(view_of_run(read_run(run), baseline), "json" if as_json else form)
    return 0
