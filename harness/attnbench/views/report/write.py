"""Writes a report's folder, all or nothing."""

from __future__ import annotations

import concurrent.futures
import importlib.util
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.store.reader import without_collector
from attnbench.store.whole_folder import whole_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from attnbench.history.store import History
    from attnbench.store.reader import RunFile
    from attnbench.views.report.blocks import Figure, Picture, ReportPage

PAGE = "index.html"
TWIN = "report.md"
DATA = "data"


def write_report(
    runs: Sequence[RunFile],
    out: Path,
    *,
    force: bool = False,
    baseline: str | None = None,
    history: History | None = None,
    across_machines: bool = False,
) -> Path:
    """Write ``index.html``, which opens offline and loads nothing, and ``report.md`` with its charts as image files.

    All numbers are in ``data/`` as CSV and Parquet.

    The files are written to a temporary folder next to ``out``, which replaces it when all of them are complete.

    Args:
        runs: at least one run.
        out: the report's folder.
        force: replace an existing report.
        baseline: the implementation that speed-ups are over; by default each scenario's.
        history: the history of cells over commits; by default there is no such section.
        across_machines: whether to compare machines with each other as well.

    Returns:
        The page's path.

    Raises:
        UsageError: there is no run, no run has the baseline, ``out`` exists, the report extra is not installed,
            or nothing can be written.
    """
    if not runs:
        raise UsageError("a report needs at least one run")
    check_place(out, force=force)
    check_extra()
    from attnbench.views.report.charts.vega import vega_bundle
    from attnbench.views.report.content import report_of

    _check_baseline(runs, baseline)
    # Charts are drawn outside of Python, so a second thread draws them at the same time if there is a second processor.
    with without_collector(), concurrent.futures.ThreadPoolExecutor(1) as beside:
        vega = beside.submit(vega_bundle)
        report = report_of(runs, baseline, history, across_machines=across_machines)
        with whole_folder(out) as made:
            _write_files(report, vega, made, beside)
    return out / PAGE


def write_page(report: ReportPage, folder: Path) -> None:
    """Write ``index.html``, ``report.md`` and each chart as SVG to a folder."""
    from attnbench.views.report.charts.vega import vega_bundle
    from attnbench.views.report.page import html_page, markdown_page, pictures_of

    for section in report.sections:
        for figure in pictures_of(section.blocks):
            _write_svg(figure, folder)
    (folder / TWIN).write_text(markdown_page(report), encoding="utf-8")
    (folder / PAGE).write_text(html_page(report, vega_bundle()), encoding="utf-8")


def _check_baseline(runs: Sequence[RunFile], baseline: str | None) -> None:
    present = sorted({record["implementation"] for run in runs for record in run.records})
    if baseline is not None and baseline not in present:
        raise UsageError(f"no run has an implementation {baseline!r}; there are: {', '.join(present)}")


def check_place(out: Path, *, force: bool) -> None:
    """Raise unless a report may be written to a folder.

    Raises:
        UsageError: the folder exists, and ``force`` does not replace it.
    """
    if not out.exists():
        return
    if not force:
        raise UsageError(f"{out} exists already; --force replaces it")
    # --force is meant for a report: a mistyped path must not delete a home folder.
    is_report = (out / PAGE).is_file() and (out / TWIN).is_file()
    if not is_report and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} is not a report, so it is not replaced; remove it yourself or choose another folder")


def check_extra() -> None:
    """Raise unless the extra ``report`` is installed.

    Raises:
        UsageError: a package of the extra is missing.
    """
    needed = ("vl_convert", "jinja2", "pyarrow")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"reports need {', '.join(missing)}: pip install 'attnbench[report]'")


def _write_files(report: ReportPage, vega: Future[str], folder: Path, beside: Executor) -> None:
    from attnbench.views.report.export import write_export
    from attnbench.views.report.page import html_page, markdown_page, pictures_of

    figures = [figure for section in report.sections for figure in pictures_of(section.blocks)]
    drawings = [beside.submit(_write_svg, figure, folder) for figure in figures]
    images = [beside.submit(_write_png, figure, folder) for figure in figures]
    (folder / DATA).mkdir()
    for export in report.exports:
        write_export(export, folder / DATA)
    (folder / TWIN).write_text(markdown_page(report), encoding="utf-8")
    for drawing in drawings:
        drawing.result()
    (folder / PAGE).write_text(html_page(report, vega.result()), encoding="utf-8")
    for image in images:
        image.result()


def _write_svg(figure: Figure | Picture, folder: Path) -> None:
    from attnbench.views.report.page import svg_file

    (folder / f"{figure.stem}.svg").write_text(svg_file(figure), encoding="utf-8")


def _write_png(figure: Figure | Picture, folder: Path) -> None:
    import vl_convert

    from attnbench.views.report.page import svg_file

    (folder / f"{figure.stem}.png").write_bytes(vl_convert.svg_to_png(svg_file(figure), scale=2))
