"""``attnbench report``: write a run file's page, and the same as Markdown."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations

from attnbench import api
from attnbench.cli.options import Across, Baseline, Force, Switch  # noqa: TC001 - cyclopts reads them
from attnbench.cli.output import latest_run


def report(
    *runs: str,
    out: Path | None = None,
    baseline: Baseline = None,
    across: Across = None,
    history: Switch = False,
    force: Force = False,
) -> int:
    """Write a report of one or several runs: index.html, which opens offline, and report.md. Prints the page's path.

    Beside them lie the charts as SVG and PNG, and every number as CSV and Parquet.

    ```
    attnbench report                          # of the latest run
    attnbench report cpu.jsonl gpu.jsonl --out reports/both
    ```

    Args:
        runs: run files; default the latest of results/runs.
        out: folder of the report; default reports/runs/NAME-OF-THE-RUN-FILE.
        history: show how each cell went over commits, as attnbench history of this machine has it.
    """
    written = api.report(
        *(runs or [latest_run()]), out=out, baseline=baseline, across=across, history=history, force=force
    )
    for warning in (warning for run in written.runs for warning in run.warnings):
        sys.stderr.write(f"attnbench: {warning}\n")
    sys.stdout.write(f"{written.path}\n")
    return 0
