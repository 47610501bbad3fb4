"""Writes a report's folder: whole, or not at all."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.store.reader import RunFile
    from attnbench.views.report.content import Report

PAGE = "index.html"
TWIN = "report.md"


class ReportError(ValueError):
    """A report cannot be written; one sentence."""


def write_report(runs: Sequence[RunFile], out: Path, *, force: bool = False) -> Path:
    """Write ``index.html``, which opens offline and loads nothing, and ``report.md`` with its charts as .svg files.

    The files are written beside the folder and moved into its place when all of them are complete.

    Args:
        runs: at least one run.
        out: the report's folder.
        force: replace a report that is there already.

    Returns:
        The page's path.

    Raises:
        ReportError: when there is no run, ``out`` exists, the report extra is not installed, or nothing can be written.
    """
    if not runs:
        raise ReportError("a report needs at least one run")
    _check_place(out, force=force)
    _check_extra()
    from attnbench.views.report.content import report_of

    report = report_of(runs)
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as folder:
            made = Path(folder) / "new"
            made.mkdir()
            _write_files(report, made)
            _put_in_place(made, out, aside=Path(folder) / "old")
    except OSError as error:
        raise ReportError(f"the report {out} cannot be written: {error.strerror}") from error
    return out / PAGE


def _put_in_place(made: Path, out: Path, aside: Path) -> None:
    """Move the new folder to its place; what was there stays there if that fails."""
    if not out.exists():
        made.rename(out)
        return
    out.rename(aside)
    try:
        made.rename(out)
    except OSError:
        aside.rename(out)
        raise


def _check_place(out: Path, *, force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise ReportError(f"{out} exists already; --force replaces it")
    # --force was meant for a report: a slip of the pen must not cost a home folder.
    is_report = out.is_dir() and (_holds_report(out) or not any(out.iterdir()))
    if not is_report:
        raise ReportError(f"{out} is not a report, so it is not replaced; remove it yourself or choose another folder")


def _holds_report(folder: Path) -> bool:
    return (folder / PAGE).is_file() and (folder / TWIN).is_file()


def _check_extra() -> None:
    missing = [name for name in ("altair", "vl_convert", "jinja2") if importlib.util.find_spec(name) is None]
    if missing:
        raise ReportError(f"reports need {', '.join(missing)}: pip install 'attnbench[report]'")


def _write_files(report: Report, folder: Path) -> None:
    from attnbench.views.report.figures import Figure
    from attnbench.views.report.page import html_page, markdown_page, svg_file

    (folder / PAGE).write_text(html_page(report), encoding="utf-8")
    (folder / TWIN).write_text(markdown_page(report), encoding="utf-8")
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Figure):
                (folder / f"{block.stem}.svg").write_text(svg_file(block), encoding="utf-8")
