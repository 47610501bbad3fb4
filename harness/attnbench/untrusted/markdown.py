"""Text that somebody else wrote, as Markdown (GitHub's) that shows it and does nothing else."""

from __future__ import annotations

import re

_MARKS = re.compile(r"[\\`*_~\[\]<>|]|&(?=[#\w])|(?<=\w):(?=//)|(?<=www)\.")
_BEGINS_BLOCK = re.compile(r"(\d*)((?<!\d)[#+=-]|(?<=\d)[.)](?=\s|$))")
_TICKS = re.compile("`+")


def inline(text: str) -> str:
    """The text as it is, in one line: none of its characters is Markdown, HTML or part of a link."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split("\n")))


def paragraph(text: str) -> str:
    """The same where a line begins: it makes no heading, list or rule either."""
    line = inline(text).strip()
    begins = _BEGINS_BLOCK.match(line)
    return f"{begins[1]}\\{line[begins.end(1) :]}" if begins else line


def code(text: str) -> str:
    """The text in one line, as code within a table's cell; nothing of nothing."""
    line = " ".join(text.split("\n"))
    if not line.strip():
        return ""
    ticks = fence(line, 1)
    room = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{room}{line}{room}{ticks}".replace("|", r"\|")


def fence(text: str, least: int = 3) -> str:
    """Backticks that no backticks within the text end."""
    return "`" * max(least, *(len(found) + 1 for found in _TICKS.findall(text)), 0)
