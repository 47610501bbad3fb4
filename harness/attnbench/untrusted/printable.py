"""Text that somebody else wrote, as it may reach a terminal, a page or a message."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Set

_SHOWN = 100
_DEEPEST = 50
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, among them those that begin a terminal's commands
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U000e0000-\U000e007f"  # unseen, or turn
    "\ud800-\udfff]"  # halves of characters, which no encoding takes
)
_CI_COMMAND = re.compile(r"(?<!\S)::(?=\w)")


def printable(text: str) -> str:
    r"""The text with everything that acts instead of showing written out, such as ``\x1b``; newline and tab stay.

    So are the colons that begin a line which a CI takes for a command, such as ``::error::``.
    """
    if not text.isprintable():
        text = _ACTIVE.sub(_escaped, text)
    return _CI_COMMAND.sub(r"\\x3a:", text) if "::" in text else text


def in_one_line(text: str) -> str:
    r"""The same, with newlines and tabs written out too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def may_act(text: str) -> bool:
    """Whether this JSON may hold characters that do more than print; if not, its texts need no inspection."""
    return not text.isascii() or "\\" in text or "\x7f" in text or "::" in text


def printable_json(value: object, several_lines: Set[str] = frozenset(), name: str = "", depth: int = 0) -> Any:
    """A value of JSON in which every text, names included, is in one line and shows.

    Texts named in ``several_lines`` keep their newlines and tabs.

    Raises:
        ValueError: with a sentence, when its brackets are nested more deeply than anybody means, or a number is
            beyond all floats.
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
    """A value as Python writes it, for a message: cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; a table in a table in a table ...
        return f"this {type(value).__name__}"
    text = in_one_line(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
