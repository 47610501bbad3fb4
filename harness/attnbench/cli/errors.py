"""Which exceptions are the user's to mend: one clear message and exit code 2."""

from __future__ import annotations

import sys


class UsageError(Exception):
    """What was asked for cannot be done as asked."""


def usage_errors() -> tuple[type[Exception], ...]:
    """The exceptions with which the other packages refuse bad input; only of modules that are loaded already."""
    places = (
        ("attnbench.cases.case", "CaseError"),
        ("attnbench.gate.baselines", "BaselineError"),
        ("attnbench.gate.calibration", "CalibrationError"),
        ("attnbench.gate.measure.rounds", "GateError"),
        ("attnbench.gate.measure.source", "SideError"),
        ("attnbench.gate.waivers", "WaiverError"),
        ("attnbench.registry.discover", "RegistryError"),
        ("attnbench.registry.implementation", "DeclarationError"),
        ("attnbench.runner.plan", "PlanError"),
        ("attnbench.runner.inspect", "InspectError"),
        ("attnbench.runner.resume", "ResumeError"),
        ("attnbench.store.reader", "RunFileError"),
        ("attnbench.store.writer", "RunFileBusyError"),
        ("attnbench.sweep.model", "ScenarioError"),
        ("attnbench.views.compare", "CompareError"),
        ("attnbench.views.report", "ReportError"),
    )
    return tuple(getattr(sys.modules[module], name) for module, name in places if module in sys.modules)
