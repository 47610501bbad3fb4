"""The command that reproduces a verdict.

A cell that is wrong, lost or broken shows it when head's cell runs once, with the command in its record. A cell that
became slower, bigger or steeper takes a comparison: the gate again, with that implementation alone.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from attnbench.gate.verdict import REGRESSED, UNDECIDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.gate.measure.side import Side
    from attnbench.gate.verdict import Verdict

_SELECTION = frozenset({"-i", "--implementation", "-x", "--exclude"})
_OF_THE_OUTPUT = frozenset({"--out", "-f", "--format"})
_SWITCHES = frozenset({"--json"})
_COMPARED = frozenset({"time", "memory", "exponent"})


def with_repeating_command(one: Verdict, command: Sequence[str], *, selects: bool) -> Verdict:
    """Return a failed or undecided verdict of a comparison with the gate's command for its implementation.

    Without ``selects`` (the baseline determines the cells) no implementation is selected.
    """
    if one.metric not in _COMPARED or one.implementation is None or one.verdict not in REGRESSED | UNDECIDED:
        return one
    dropped = _OF_THE_OUTPUT | _SELECTION if selects else _OF_THE_OUTPUT
    kept = _without(command, dropped)
    if selects:
        kept += ["-i", f"^{re.escape(one.implementation)}$".replace(r"\-", "-")]
    return one.model_copy(update={"repro": shlex.join(kept)})


def shown_on_head(one: Verdict, base: Side, head: Side) -> Verdict:
    """Replace base's plug-in files by head's in the verdict's command: a lost cell has only base's record."""
    command = one.repro
    for theirs, ours in zip(base.plugins, head.plugins, strict=False):
        command = command and command.replace(shlex.quote(theirs), shlex.quote(ours))
    return one.model_copy(update={"repro": command})


def _without(command: Sequence[str], options: frozenset[str]) -> list[str]:
    """Return the command line without the given options and their values, and without switches of the output."""
    kept: list[str] = []
    tokens = iter(command)
    for token in tokens:
        name, is_joined, _ = token.partition("=")
        if name in options:
            if not is_joined:
                next(tokens, None)
        elif token not in _SWITCHES:
            kept.append(token)
    return kept
