"""Untrusted text, made safe for a terminal, a page or a message."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Set

_SHOWN = 100
_DEEPEST = 50
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, including those that begin terminal commands
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U000e0000-\U000e007f"  # unseen, or turn
    "\ud800-\udfff]"  # lone surrogates, which cannot be encoded
)
_CI_COMMAND = re.compile(r"(?<!\S)::(?=\w)")


def printable(text: str) -> str:
    r"""Escape everything that acts instead of showing, such as ``\x1b``; newlines and tabs are kept.

    Colons that make a line a CI command, such as ``::error::``, are escaped as well.
    """
    if not text.isprintable():
        text = _ACTIVE.sub(_escaped, text)
    return _CI_COMMAND.sub(r"\\x3a:", text) if "::" in text else text


def in_one_line(text: str) -> str:
    r"""Escape text like :func:`printable`, newlines and tabs included."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def may_act(text: str) -> bool:
    """Whether JSON text may hold characters that do more than print; if not, its values need no inspection."""
    return not text.isascii() or "\\" in text or "\x7f" in text or "::" in text


def printable_json(value: object, several_lines: Set[str] = frozenset(), name: str = "", depth: int = 0) -> Any:
    """Escape all texts of a JSON value, keys included, for display in one line.

    Texts under the keys in ``several_lines`` keep their newlines and tabs.

    Raises:
        ValueError: with a sentence, if brackets are nested too deeply or a number is beyond all floats.
    """
    if isinstance(value, float) and math.isinf(value):
        raise ValueError("a number is beyond all floats")
    if isinstance(value, str):
        return printable(value) if name in several_lines else in_one_line(value)
    if depth == _DEEPEST:
        raise ValueError("its brackets are nested too deeply")
    if isinstance(value, list):
        return [printable_json(item, several_lines, name, depth + 1) for item in value]
    if isinstance(value, dict):
        return {in_one_line(k): printable_json(v, several_lines, k, depth + 1) for k, v in value.items()}
    return value


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def shown(value: object) -> str:
    """Return a value's ``repr`` for a message, shortened if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or deeply nested tables
        return f"this {type(value).__name__}"
    text = in_one_line(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
