"""Answers of the functions, which display themselves: in a terminal as tables, in a notebook with charts."""

from __future__ import annotations

import collections
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from attnbench.gate.calibration import Calibration
    from attnbench.gate.verdict import GateResult
    from attnbench.store.capture import Capture
    from attnbench.store.reader import RunFile
    from attnbench.views.compare import Comparison
    from attnbench.views.document import View
    from attnbench.views.forms.notebook import Image


class Answer:
    """An answer: ``print`` shows the terminal's table, and a notebook displays it.

    Args:
        view: makes the view when it is first used.
        images: makes charts for a notebook.
        ok: whether the command exits with code 0.
    """

    def __init__(
        self, view: Callable[[], View], images: Callable[[], Sequence[Image]] = tuple, *, ok: bool = True
    ) -> None:
        self.ok = ok
        self._make_view = view
        self._make_images = images

    @functools.cached_property
    def view(self) -> View:
        """The answer as blocks, rows and facts; :mod:`attnbench.views.document` formats it as Markdown, CSV or JSON."""
        return self._make_view()

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a pandas frame; the names of columns contain units."""
        import pandas as pd

        return pd.DataFrame(list(self.view.rows))

    def __repr__(self) -> str:
        from attnbench.views.forms.terminal import as_text

        return as_text(self.view)

    def _repr_html_(self) -> str:
        from attnbench.views.forms.notebook import html

        return html(self.view, self._make_images())


FIRST_COLUMNS = (
    "implementation", "device", "mode", "dtype", "mask", "heads_q", "seqlen_q", "seqlen_kv", "head_dim", "status",
    "time_median_ns", "time_ci_low_ns", "time_ci_high_ns", "memory_peak_bytes", "out_error_ratio", "reason",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Charts:
    """Charts that a notebook displays."""

    images: tuple[Image, ...]

    def _repr_html_(self) -> str:
        from attnbench.views.forms.notebook import figures

        return figures(self.images)


class Run(Answer):
    """A run file: times, memory and agreement case by case, and why cells are not ok."""

    def __init__(self, path: str | Path, *, baseline: str | None = None, ok: bool = True) -> None:
        super().__init__(lambda: _view_of_run(self.file, baseline), lambda: _charts([self.file]), ok=ok)
        self.path = Path(path)

    @functools.cached_property
    def file(self) -> RunFile:
        """Header, records and footers as stored."""
        from attnbench.store.reader import read_run

        return read_run(self.path)

    @property
    def frame(self) -> pd.DataFrame:
        """The records like :func:`attnbench.load` returns them: a row for each, a column for each field.

        The columns that are used most come first.
        """
        records = _records([self.file])
        rest = [name for name in records.columns if name not in FIRST_COLUMNS]
        return records[[*FIRST_COLUMNS, *rest]]

    def plot(self) -> Charts:
        """Draw time over sequence length, a chart for each group of cases, for a notebook to display.

        Raises:
            UsageError: the extra ``report`` is not installed, or nothing was timed.
        """
        images = _charts([self.file])
        if not images:
            raise UsageError("no chart: nothing was timed, or the extra is missing: pip install 'attnbench[report]'")
        return Charts(tuple(images))

    @property
    def counts(self) -> dict[str, int]:
        """The number of records with each status."""
        return dict(collections.Counter(record["status"] for record in self.file.records))


class FinishedRun(Run):
    """A run that has just been made; ``ok`` if every cell that ran agrees and none broke."""

    def __init__(self, path: str | Path, *, exit_code: int, messages: Sequence[str]) -> None:
        super().__init__(path, ok=exit_code == 0)
        self.exit_code = exit_code
        """0 ok, 1 disagreement, 3 records were not stored, 4 cells broke, 5 nothing measured, above 128 interrupted."""
        self.messages = tuple(messages)
        """All messages of the run, whether or not they were printed."""

    @functools.cached_property
    def answer(self) -> View:
        """The view that ends the command: a table, fastest first, and a sentence on the fastest."""
        from attnbench.store.machines import by_machine
        from attnbench.views.machines import on_each
        from attnbench.views.show import answer

        return on_each(by_machine(self.file), answer)


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or a notebook's stop button. Stored measurements remain: ``attnbench.run(resume=stopped.run.path)``."""

    def __init__(self, run: FinishedRun) -> None:
        super().__init__(f"what was measured is in {run.path}; attnbench.run(resume={str(run.path)!r}) goes on")
        self.run = run


class ComparedRuns(Answer):
    """Speed-ups cell by cell; ``ok`` if there is a pair of cells to compare."""

    def __init__(self, view: Callable[[], View], comparisons: Sequence[Comparison], runs: Sequence[RunFile]) -> None:
        super().__init__(view, lambda: _charts(runs), ok=any(one.pairs for one in comparisons))
        self.comparisons = tuple(comparisons)
        """One comparison for each kind of machine, or each pair of runs."""


class Report(Answer):
    """A report that was written."""

    def __init__(self, path: Path, runs: Sequence[RunFile]) -> None:
        from attnbench.views.show import runs_view

        super().__init__(lambda: runs_view(f"Report: {path}", runs), lambda: _charts(runs))
        self.path = path
        """Path of the page, ``index.html``."""
        self.runs = tuple(runs)

    @property
    def frame(self) -> pd.DataFrame:
        """The records of its runs like :func:`attnbench.load` returns them."""
        return _records(self.runs)


class Inspection(Answer):
    """A page about one case; ``ok`` if no implementation disagrees with the oracle."""

    def __init__(self, path: Path, *, ok: bool) -> None:
        from attnbench.views.forms.notebook import pictures_in
        from attnbench.views.report.inspection import inspection_view

        super().__init__(lambda: inspection_view(path), lambda: pictures_in(path.parent), ok=ok)
        self.path = path
        """Path of the page, ``index.html``."""


class ProfiledCells(Answer):
    """A profile in a folder."""

    def __init__(self, path: Path, *, exit_code: int) -> None:
        from attnbench.store.profile import read_profile
        from attnbench.views.profile.answer import profile_view

        super().__init__(lambda: profile_view(read_profile(path.parent)), ok=exit_code == 0)
        self.path = path
        """Path of the page, ``index.html``."""
        self.exit_code = exit_code
        """0 ok, 1 disagreement, 4 cells broke, 5 nothing measured, 6 this machine refuses to be sampled."""


class CapturedModel(Answer):
    """The captured attention of a model; it can be read once the capture has ended."""

    def __init__(self, path: Path) -> None:
        from attnbench.views.capture import capture_view

        super().__init__(lambda: capture_view(path, self.capture))
        self.path = path
        """The folder."""

    @functools.cached_property
    def capture(self) -> Capture:
        """The content of ``capture.json``."""
        from attnbench.store.capture import read_capture

        return read_capture(self.path)


class Gate(Answer):
    """The answer of a gate; ``ok`` if it passes."""

    def __init__(self, result: GateResult, folder: Path | None, messages: Sequence[str]) -> None:
        from attnbench.views.gate.table import gate_view

        super().__init__(lambda: gate_view(result), ok=result.exit_code == 0)
        self.result = result
        self.exit_code = result.exit_code
        """0 ok, 1 regressed, 4 cells failed, 5 nothing measured or cells missing, 6 undecided."""
        self.folder = folder
        """The folder of run files and results; ``None`` if nothing was measured and no ``out`` was given."""
        self.messages = tuple(messages)
        """All messages of the command, except for the progress lines."""


class CalibratedMachine(Answer):
    """The noise of this machine on a scenario."""

    def __init__(self, calibration: Calibration, path: Path) -> None:
        from attnbench.views.gate.calibration import calibration_view

        super().__init__(lambda: calibration_view(calibration))
        self.calibration = calibration
        self.path = path
        """The calibration's file."""


def _view_of_run(run: RunFile, baseline: str | None) -> View:
    from attnbench.store.machines import by_machine
    from attnbench.views.machines import on_each
    from attnbench.views.show import show

    return on_each(by_machine(run), lambda one: show(one, baseline))


def _charts(runs: Sequence[RunFile]) -> Sequence[Image]:
    from attnbench.views.forms.notebook import time_charts

    return time_charts(runs)


def _records(runs: Sequence[RunFile]) -> pd.DataFrame:
    from attnbench.store.reader import frame_of

    return frame_of(runs)
