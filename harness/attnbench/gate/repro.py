"""The command that shows a verdict again.

What is wrong, lost or broken shows itself when head's cell is run once; that is the record's own command. That
something became slower, bigger or steeper is a comparison: it takes the gate again, with that implementation alone.
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
    """A verdict on a comparison that failed or could not be told, with the gate's command for its implementation.

    Implementations are not selected where a baseline says itself which cells it has.
    """
    if one.metric not in _COMPARED or one.implementation is None or one.verdict not in REGRESSED | UNDECIDED:
        return one
    dropped = _OF_THE_OUTPUT | _SELECTION if selects else _OF_THE_OUTPUT
    kept = _without(command, dropped)
    if selects:
        kept += ["-i", f"^{re.escape(one.implementation)}$".replace(r"\-", "-")]
    return one.model_copy(update={"repro": shlex.join(kept)})


def shown_on_head(one: Verdict, base: Side, head: Side) -> Verdict:
    """The verdict with head's plug-in files in its command: a cell that has disappeared has base's record alone."""
    command = one.repro
    for theirs, ours in zip(base.plugins, head.plugins, strict=False):
        command = command and command.replace(shlex.quote(theirs), shlex.quote(ours))
    return one.model_copy(update={"repro": command})


def _without(command: Sequence[str], options: frozenset[str]) -> list[str]:
    """The command line without these options and their values, and without switches of the output."""
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
