"""GitHub's workflow commands: lines on stdout that become annotations of a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.gate.verdict import UNDECIDED

if TYPE_CHECKING:
    from attnbench.gate.verdict import GateResult

MOST = 10
"""GitHub shows ten errors and ten warnings of a step, and silently drops the rest."""


def workflow_commands(result: GateResult) -> str:
    """Return errors for verdicts that fail the gate, warnings for undecided ones, and a notice with the result."""
    errors = [f"::error title={_property(problem)}::{_data(problem)}" for problem in result.problems]
    warnings = []
    for one in result.all_verdicts:
        title, text = (
            _property(f"{one.verdict.replace('_', ' ')}: {one.label}"),
            _data(f"{one.sentence}\n{one.repro or ''}"),
        )
        if one.regressed:
            errors.append(f"::error title={title}::{text}")
        elif one.verdict in UNDECIDED or one.verdict == "not_measured":
            warnings.append(f"::warning title={title}::{text}")
    lines = [*_first(errors, "error"), *_first(warnings, "warning")]
    return "\n".join([*lines, f"::notice title=attnbench gate::{_data(result.sentence)}"]) + "\n"


def _first(lines: list[str], kind: str) -> list[str]:
    if len(lines) <= MOST:
        return lines
    more = len(lines) - MOST + 1
    return [*lines[: MOST - 1], f"::{kind} title={more} more::{more} more are in the step summary"]


def _data(text: str) -> str:
    return text.strip().replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
