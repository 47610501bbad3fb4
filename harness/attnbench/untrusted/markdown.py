"""Untrusted text in (GitHub's) Markdown, escaped so that it shows literally."""

from __future__ import annotations

import re

_MARKS = re.compile(r"[\\`*_~\[\]<>|]|&(?=[#\w])|(?<=\w):(?=//)|(?<=www)\.")
_BEGINS_BLOCK = re.compile(r"(\d*)((?<!\d)[#+=-]|(?<=\d)[.)](?=\s|$))")
_TICKS = re.compile("`+")


def inline(text: str) -> str:
    """Escape a text for display in one line: none of its characters acts as Markdown, HTML or part of a link."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split("\n")))


def paragraph(text: str) -> str:
    """Escape a text like :func:`inline` for the start of a line: it begins no heading, list or rule either."""
    line = inline(text).strip()
    begins = _BEGINS_BLOCK.match(line)
    return f"{begins[1]}\\{line[begins.end(1) :]}" if begins else line


def code(text: str) -> str:
    """Format a text in one line as code for a table cell; empty if the text is blank."""
    line = " ".join(text.split("\n"))
    if not line.strip():
        return ""
    ticks = fence(line, 1)
    room = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{room}{line}{room}{ticks}".replace("|", r"\|")


def fence(text: str, least: int = 3) -> str:
    """Return a run of backticks longer than any within the text."""
    return "`" * max(least, *(len(found) + 1 for found in _TICKS.findall(text)), 0)
