"""Reads a capture's folder, and matches a run's cells to its calls."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.capturing.scenario import captured_cases
from attnbench.errors import UsageError
from attnbench.store.capture import SCENARIO, read_capture
from attnbench.untrusted.printable import in_one_line
from attnbench.views.cells import cells_of

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.cases.case import Case
    from attnbench.store.capture import Capture
    from attnbench.store.reader import RunFile
    from attnbench.views.cells import CellResult


class ReplayError(UsageError):
    """A capture and a run do not belong together; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class CaptureFolder:
    """A folder that ``attnbench capture`` wrote."""

    path: Path
    capture: Capture
    cases: dict[str, Case]
    """Cases by shape."""

    @property
    def device(self) -> str:
        """The device of the calls.

        Raises:
            ReplayError: if there is more than one.
        """
        if "," in self.capture.device:
            raise ReplayError(
                f"{in_one_line(str(self.path))} has calls on {self.capture.device}: capture and replay them one by one"
            )
        return self.capture.device

    @property
    def scenario(self) -> Path:
        """The scenario's file."""
        return self.path / SCENARIO


def read_folder(path: Path) -> CaptureFolder:
    """Read a capture and its scenario.

    Raises:
        UsageError: if either cannot be read.
        ReplayError: if they do not belong to one capture.
    """
    name = in_one_line(str(path))
    if not path.is_dir():
        raise ReplayError(f"{name} is no folder that attnbench capture wrote")
    capture = read_capture(path)
    if not capture.calls:
        raise ReplayError(f"{name} has no call to replay: its capture saw no attention that it understood")
    cases = captured_cases(path)
    missing = [call.shape for call in capture.calls if call.shape not in cases]
    if missing:
        raise ReplayError(f"{name}: capture.json and {SCENARIO} are of two captures: the scenario has no {missing[0]}")
    return CaptureFolder(path, capture, cases)


def cells_by_call(folder: CaptureFolder, run: RunFile) -> dict[str, list[CellResult]]:
    """Return the cells of each captured call, by shape.

    Raises:
        ReplayError: if the run has other calls, or another device.
    """
    device = folder.device
    where = f"{in_one_line(run.path)} is not a run of {in_one_line(str(folder.path))}"
    by_problem: dict[str, list[CellResult]] = {}
    for cell in cells_of(run):
        if cell.device == device:
            by_problem.setdefault(_problem(cell.case), []).append(cell)
    if run.records and not by_problem:
        raise ReplayError(f"{where}: the capture is of {device}, the run of {', '.join(run.header.devices)}")
    found = {call.shape: by_problem.get(_problem(folder.cases[call.shape]), []) for call in folder.capture.calls}
    missing = [shape for shape, cells in found.items() if not cells]
    if missing and (run.is_complete or len(missing) == len(found)):
        raise ReplayError(f"{where}: it has no cell of {missing[0]}")
    return found


def _problem(case: Case) -> str:
    """Return an id of a case's problem, independent of its seed."""
    return dataclasses.replace(case, seed=0).case_id
