"""Text that somebody else wrote, as it may reach a terminal, a page or a message."""

from __future__ import annotations

import re

_SHOWN = 100
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, among them those that begin a terminal's commands
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # unseen, or turn
    "\ud800-\udfff]"  # halves of characters, which no encoding takes
)


def printable(text: str) -> str:
    r"""The text with everything that acts instead of showing written out, such as ``\x1b``; newline and tab stay."""
    return text if text.isprintable() else _ACTIVE.sub(_escaped, text)


def in_one_line(text: str) -> str:
    r"""The same, with newlines and tabs written out too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


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
