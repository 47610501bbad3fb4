"""The Python interface: the commands as functions, with the same names of arguments and the same defaults.

Answers display themselves in a notebook, print as the terminal's tables, and have a pandas frame. The functions are
names of :mod:`attnbench` as well, except for ``gate``, ``calibrate`` and those of :mod:`attnbench.api.history`, because
``attnbench.gate`` and ``attnbench.history`` are packages.
"""

from __future__ import annotations

from attnbench.api.gates import calibrate, gate
from attnbench.api.inspection import inspect
from attnbench.api.models.capturing import capture
from attnbench.api.models.putting_back import VerifiedModel, verify
from attnbench.api.models.replaying import ReplayedModel, replay
from attnbench.api.predicting import Predicted, predict
from attnbench.api.profiling import profile
from attnbench.api.reading import compare, merge, report, show
from attnbench.api.results import (
    Answer,
    CalibratedMachine,
    CapturedModel,
    ComparedRuns,
    FinishedRun,
    Gate,
    Inspection,
    ProfiledCells,
    Report,
    Run,
    RunInterrupted,
)
from attnbench.api.runs import check, plan, run, sensitivity
from attnbench.store.folder import latest_run

__all__ = [
    "Answer",
    "CalibratedMachine",
    "CapturedModel",
    "ComparedRuns",
    "FinishedRun",
    "Gate",
    "Inspection",
    "Predicted",
    "ProfiledCells",
    "ReplayedModel",
    "Report",
    "Run",
    "RunInterrupted",
    "VerifiedModel",
    "calibrate",
    "capture",
    "check",
    "compare",
    "gate",
    "inspect",
    "latest_run",
    "merge",
    "plan",
    "predict",
    "profile",
    "replay",
    "report",
    "run",
    "sensitivity",
    "show",
    "verify",
]
