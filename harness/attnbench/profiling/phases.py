"""The phases of a call, and the comments ``# phase: softmax`` by which a source names them."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from enum import StrEnum
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.untrusted.printable import shown


class Phase(StrEnum):
    """The kind of work that a thread does at some moment of a call."""

    QK = "qk"
    EXP = "exp"
    SOFTMAX = "softmax"
    PV = "pv"
    PRODUCTS = "products"
    GRADIENTS = "gradients"
    MASK = "mask"
    COPIES = "copies"
    MEMORY = "memory"
    WAITING = "waiting"
    DISPATCH = "dispatch"
    OTHER = "other"


TITLES = {
    Phase.QK: "Q K^T",
    Phase.EXP: "exp",
    Phase.SOFTMAX: "softmax, but for exp",
    Phase.PV: "P V",
    Phase.PRODUCTS: "products, not told apart",
    Phase.GRADIENTS: "products of the gradients",
    Phase.MASK: "mask, bias, scale",
    Phase.COPIES: "packing and copies",
    Phase.MEMORY: "allocation, page faults, system calls",
    Phase.WAITING: "waiting, idle threads",
    Phase.DISPATCH: "dispatch, interpreter",
    Phase.OTHER: "other",
}
_COMMENT = re.compile(r"#\s*phase:\s*(\S+)")
_LARGEST_SOURCE = 2**22


class PhaseError(UsageError):
    """A source or a table names an unknown phase."""


def phase_named(name: str, where: str) -> Phase:
    """Return the phase of this name.

    Raises:
        PhaseError: if there is none.
    """
    try:
        return Phase(name)
    except ValueError:
        raise PhaseError(f"{where}: phase {shown(name)} is none of {', '.join(Phase)}") from None


@functools.cache
def phases_of_file(path: str) -> dict[int, Phase]:
    """Return the named phases of a Python source's lines; empty if the file is not a readable Python source.

    A comment ``# phase: NAME`` on its own line applies to the lines below it, up to the next such comment or the end of
    the function; after a statement, it applies to that line alone.

    Raises:
        PhaseError: if a phase is unknown.
    """
    source = Path(path)
    try:
        if source.suffix != ".py" or source.stat().st_size > _LARGEST_SOURCE:
            return {}
        return phases_of_source(source.read_text("utf-8"), path)
    except PhaseError:
        raise
    except (OSError, SyntaxError, ValueError):
        return {}


def phases_of_source(text: str, path: str) -> dict[int, Phase]:
    """Return the phases of a source text; ``path`` appears in errors."""
    ends = sorted(
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    found: dict[int, Phase] = {}
    below: Phase | None = None
    until = 0
    named = {line: (phase, alone) for line, phase, alone in _comments(text, path)}
    for line in range(1, text.count("\n") + 2):
        if line > until:
            below = None
        if line in named:
            phase, alone = named[line]
            if not alone:
                found[line] = phase
                continue
            below, until = phase, _function_end(ends, line)
        if below is not None:
            found[line] = below
    return found


def _comments(text: str, path: str) -> list[tuple[int, Phase, bool]]:
    """Return line, phase, and whether the comment is alone on its line."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (match := _COMMENT.search(token.string)):
            phase = phase_named(match[1].rstrip(".,;"), f"{path}:{token.start[0]}")
            found.append((token.start[0], phase, not token.line[: token.start[1]].strip()))
    return found


def _function_end(functions: list[tuple[int, int]], line: int) -> int:
    """Return the last line of the innermost function around a line, or the line itself outside functions."""
    around = [(start, end) for start, end in functions if start <= line <= end]
    return max(around)[1] if around else line
