"""What the functions return: answers that show themselves, in a terminal as a table, in a notebook with charts."""

from __future__ import annotations

import abc
import collections
import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from attnbench.gate.calibration import Calibration
    from attnbench.gate.verdict import GateResult
    from attnbench.mutants.sensitivity import Sensitivity
    from attnbench.runner.plan import Cell
    from attnbench.store.reader import RunFile
    from attnbench.views.compare import Comparison
    from attnbench.views.document import View
    from attnbench.views.notebook import Image


class Shown(abc.ABC):
    """An answer: ``print`` it for the table of the terminal, or let a notebook show it."""

    @property
    @abc.abstractmethod
    def view(self) -> View:
        """The answer as blocks, rows and facts; :mod:`attnbench.views.document` makes Markdown, CSV and JSON of it."""

    @property
    def ok(self) -> bool:
        """Whether the command would end with exit code 0."""
        return True

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a pandas frame, units in the names of its columns."""
        import pandas as pd

        return pd.DataFrame(list(self.view.rows))

    def images(self) -> list[Image]:
        """Charts for a notebook; empty where there is nothing to draw, or the extra ``report`` is not installed."""
        return []

    def __repr__(self) -> str:
        from attnbench.views.document import as_text

        return as_text(self.view)

    def _repr_html_(self) -> str:
        from attnbench.views.notebook import html

        return html(self.view, self.images())


class Run(Shown):
    """A run file: times, memory and agreement case by case, and why cells are not ok."""

    def __init__(self, path: str | Path, *, baseline: str | None = None) -> None:
        self.path = Path(path)
        self.baseline = baseline
        """What speed-ups are relative to; ``None`` is the scenario's."""

    @functools.cached_property
    def file(self) -> RunFile:
        """Header, records and footers as they were written."""
        from attnbench.store.reader import read_run

        return read_run(self.path)

    @functools.cached_property
    def view(self) -> View:
        """As ``attnbench show`` shows it."""
        from attnbench.views.show import show

        return show(self.file, self.baseline)

    @property
    def frame(self) -> pd.DataFrame:
        """The records, as :func:`attnbench.load` gives them: a row for each, a column for each field."""
        from attnbench.store.reader import frame_of

        return frame_of([self.file])

    @property
    def counts(self) -> dict[str, int]:
        """Records by status."""
        return dict(collections.Counter(record["status"] for record in self.file.records))

    def images(self) -> list[Image]:
        """Time over sequence length."""
        from attnbench.views.notebook import time_charts

        return time_charts([self.file])


class FinishedRun(Run):
    """A run that has just been made."""

    def __init__(self, path: str | Path, *, exit_code: int, messages: Sequence[str]) -> None:
        super().__init__(path)
        self.exit_code = exit_code
        """0 ok, 1 disagreement, 3 not all could be stored, 4 cells broke, 5 nothing measured, above 128 interrupted."""
        self.messages = tuple(messages)
        """Everything that the command says on stderr."""

    @property
    def ok(self) -> bool:
        """Whether every cell that ran agrees and none broke."""
        return self.exit_code == 0


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C, or a notebook's stop button. What was measured is stored: ``attnbench.run(resume=stopped.run.path)``."""

    def __init__(self, run: FinishedRun) -> None:
        super().__init__(f"what was measured is in {run.path}; attnbench.run(resume={str(run.path)!r}) goes on")
        self.run = run


class PlannedRun(Shown):
    """The cells that a run would have."""

    def __init__(self, name: str, cells: Sequence[Cell], sampling_s: float) -> None:
        self.name = name
        self.cells = tuple(cells)
        self.sampling_s = sampling_s

    @functools.cached_property
    def view(self) -> View:
        """Cell by cell, with an estimate."""
        from attnbench.views.plan import plan_view

        return plan_view(self.name, self.cells, self.sampling_s)

    @property
    def sentence(self) -> str:
        """How many cells there are, and how long they take."""
        return str(self.view.facts["sentence"])


class ComparedRuns(Shown):
    """Speed-ups, cell by cell."""

    def __init__(self, comparison: Comparison, runs: Sequence[RunFile]) -> None:
        self.comparison = comparison
        self.runs = tuple(runs)

    @functools.cached_property
    def view(self) -> View:
        """Means first, then what is missing, then each cell."""
        from attnbench.views.compare_view import view_of

        return view_of(self.comparison)

    @property
    def ok(self) -> bool:
        """Whether there is a pair of cells to compare."""
        return bool(self.comparison.pairs)

    def images(self) -> list[Image]:
        """Time over sequence length, of each run."""
        from attnbench.views.notebook import time_charts

        return time_charts(self.runs)


class Report(Shown):
    """A report that was written."""

    def __init__(self, path: Path, runs: Sequence[Run]) -> None:
        self.path = path
        """Of the page, ``index.html``."""
        self.runs = tuple(runs)

    @functools.cached_property
    def view(self) -> View:
        """Where it is, and what its runs are."""
        from attnbench.views.show import runs_view

        return runs_view(f"Report: {self.path}", [run.file for run in self.runs])

    @property
    def frame(self) -> pd.DataFrame:
        """The records of its runs, as :func:`attnbench.load` gives them."""
        from attnbench.store.reader import frame_of

        return frame_of([run.file for run in self.runs])

    def images(self) -> list[Image]:
        """Time over sequence length, of each run."""
        from attnbench.views.notebook import time_charts

        return time_charts([run.file for run in self.runs])


class Inspection(Shown):
    """A page about one case that was written."""

    def __init__(self, path: Path, *, disagree: bool) -> None:
        self.path = path
        """Of the page, ``index.html``."""
        self._disagree = disagree

    @functools.cached_property
    def view(self) -> View:
        """What is seen of the case, and what implementations make of it."""
        from attnbench.views.report.inspection import inspection_view

        return inspection_view(self.path)

    @property
    def ok(self) -> bool:
        """Whether no implementation disagrees with the oracle."""
        return not self._disagree

    def images(self) -> list[Image]:
        """The mask, and the attention weights of each head."""
        from attnbench.views.notebook import pictures_in

        return pictures_in(self.path.parent)


class SensitivityTable(Shown):
    """Which known-wrong implementations a scenario's inputs catch."""

    def __init__(self, name: str, found: Sensitivity) -> None:
        self.name = name
        self.found = found

    @functools.cached_property
    def view(self) -> View:
        """The mutants, and what the scenario is blind to."""
        from attnbench.views.sensitivity import sensitivity_view

        return sensitivity_view(self.name, self.found)


class Gate(Shown):
    """What a gate says of a change."""

    def __init__(self, result: GateResult, folder: Path | None, messages: Sequence[str]) -> None:
        self.result = result
        self.folder = folder
        """Run files and results in every form; ``None`` where nothing was measured."""
        self.messages = tuple(messages)

    @property
    def exit_code(self) -> int:
        """0 ok, 1 regressed, 4 cells failed, 5 nothing measured or cells missing, 6 undecided."""
        return self.result.exit_code

    @property
    def ok(self) -> bool:
        """Whether the gate passes."""
        return self.exit_code == 0

    @functools.cached_property
    def view(self) -> View:
        """What failed first, then every verdict with its sentence."""
        from attnbench.views.gate.table import gate_view

        return gate_view(self.result)


class CalibratedMachine(Shown):
    """What the noise of this machine is on a scenario."""

    def __init__(self, calibration: Calibration, path: Path) -> None:
        self.calibration = calibration
        self.path = path
        """Where the gate finds it."""

    @functools.cached_property
    def view(self) -> View:
        """The noise of each cell, and how often the gate is wrong here."""
        from attnbench.views.gate.calibration import calibration_view

        return calibration_view(self.calibration)
