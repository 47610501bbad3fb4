"""Writes a report's folder: whole, or not at all."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.store.reader import without_collector

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor, Future

    from attnbench.history.store import History
    from attnbench.store.reader import RunFile
    from attnbench.views.report.blocks import Figure, ReportPage

PAGE = "index.html"
TWIN = "report.md"
DATA = "data"


class ReportError(UsageError):
    """A report cannot be written; one sentence."""


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

    Every number lies in ``data/`` as CSV and Parquet.

    The files are written beside the folder and moved into its place when all of them are complete.

    Args:
        runs: at least one run.
        out: the report's folder.
        force: replace a report that is there already.
        baseline: what speed-ups are over; default each scenario's.
        history: how cells went over commits; default: no such section.
        across_machines: whether machines are compared with each other, too.

    Returns:
        The page's path.

    Raises:
        ReportError: when there is no run, no run has the baseline, ``out`` exists, the report extra is not installed,
            or nothing can be written.
    """
    if not runs:
        raise ReportError("a report needs at least one run")
    check_place(out, force=force)
    check_extra()
    from attnbench.views.report.charts.vega import vega_bundle
    from attnbench.views.report.content import report_of

    _check_baseline(runs, baseline)
    try:
        # Charts are drawn outside of Python: beside everything else, where there is a second processor.
        with without_collector(), concurrent.futures.ThreadPoolExecutor(1) as beside:
            vega = beside.submit(vega_bundle)
            report = report_of(runs, baseline, history, across_machines=across_machines)
            out.absolute().parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as folder:
                made = Path(folder) / "new"
                made.mkdir()
                _write_files(report, vega, made, beside)
                _put_in_place(made, out, aside=Path(folder) / "old")
    except OSError as error:
        raise ReportError(f"the report {out} cannot be written: {error.strerror}") from error
    return out / PAGE


def _check_baseline(runs: Sequence[RunFile], baseline: str | None) -> None:
    present = sorted({record["implementation"] for run in runs for record in run.records})
    if baseline is not None and baseline not in present:
        raise ReportError(f"no run has an implementation {baseline!r}; there are: {', '.join(present)}")


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


def check_place(out: Path, *, force: bool) -> None:
    """Do nothing where a report may be written.

    Raises:
        ReportError: where something is there already, and ``force`` does not replace it.
    """
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


def check_extra() -> None:
    """Do nothing where the extra is installed.

    Raises:
        ReportError: otherwise.
    """
    needed = ("vl_convert", "jinja2", "pyarrow")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ReportError(f"reports need {', '.join(missing)}: pip install 'attnbench[report]'")


def _write_files(report: ReportPage, vega: Future[str], folder: Path, beside: Executor) -> None:
    from attnbench.views.report.export import write_export
    from attnbench.views.report.page import figures_of, html_page, markdown_page

    figures = [figure for section in report.sections for figure in figures_of(section.blocks)]
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


def _write_svg(figure: Figure, folder: Path) -> None:
    from attnbench.views.report.page import svg_file

    (folder / f"{figure.stem}.svg").write_text(svg_file(figure), encoding="utf-8")


def _write_png(figure: Figure, folder: Path) -> None:
    import vl_convert

    from attnbench.views.report.page import svg_file

    (folder / f"{figure.stem}.png").write_bytes(vl_convert.svg_to_png(svg_file(figure), scale=2))
