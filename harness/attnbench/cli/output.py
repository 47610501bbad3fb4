"""Prints views in the requested form."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from attnbench import api

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from attnbench.cli.options import Form
    from attnbench.views.document import View


def latest_run(*, timed: bool = False) -> Path:
    """Return the latest run (with times, if needed) for a command that names none, and report it on stderr."""
    path = api.latest_run(timed=timed)
    sys.stderr.write(f"attnbench: the latest run is {path}\n")
    return path


def print_view(view: View, form: Form) -> None:
    """Write a view to stdout."""
    from attnbench.views import document

    if form == "terminal":
        print_tables(view, sys.stdout)
        return
    written = {"markdown": document.markdown, "csv": document.as_csv, "json": document.as_json}[form](view)
    sys.stdout.write(written if written.endswith("\n") else written + "\n")


def print_tables(view: View, stream: TextIO) -> None:
    """Print for a terminal with colours; a pipe gets the same text without colours, and wider."""
    from rich.console import Console

    from attnbench.views.forms.terminal import terminal

    console = Console(file=stream)
    if not console.is_terminal:
        console = Console(file=stream, width=max(console.width, 160))
    console.print(terminal(view))
