"""``attnbench report``: a page and its Markdown twin from a run file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    *runs: str,
    out: Path | None = None,
    baseline: str | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a report of one or several runs: index.html, which opens offline, and report.md. Prints the page's path.

    Beside them lie the charts as SVG and PNG, and every number as CSV and Parquet.

    Args:
        runs: run files.
        out: folder of the report; default reports/runs/NAME-OF-THE-RUN-FILE.
        baseline: implementation that speed-ups are over; default the scenario's.
        force: replace an existing report.
    """
    from attnbench.cli.errors import UsageError
    from attnbench.store.reader import read_run
    from attnbench.views.report import write_report

    if not runs:
        raise UsageError("which run? attnbench report results/runs/....jsonl")
    run_files = [read_run(path) for path in runs]
    for run_file in run_files:
        for warning in run_file.warnings:
            sys.stderr.write(f"attnbench: {warning}\n")
    folder = out or Path("reports/runs") / (Path(runs[0]).stem if runs[0] != "-" else "stdin")
    sys.stdout.write(f"{write_report(run_files, folder, force=force, baseline=baseline)}\n")
    return 0
