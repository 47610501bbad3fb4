"""Code that a library compiles in this process and names in a file for ``perf``, as oneDNN does where it is asked to.

Linux, tools/perf/Documentation/jit-interface.txt: lines of start and size, hexadecimal, and name. oneDNN's developer
guide, "Profiling oneDNN Performance": ``ONEDNN_JIT_PROFILE``.
"""

from __future__ import annotations

import collections
import os
import re
from bisect import bisect_right
from pathlib import Path

VARIABLES = {"ONEDNN_JIT_PROFILE": "2"}
"""Environment of a process whose oneDNN shall write the file."""
_LINE = re.compile(r"([0-9a-f]{1,16}) ([0-9a-f]{1,8}) (\S.{0,199})")
_NUMBER = re.compile(r"\.\d+$")
"""OneDNN counts all that it compiles."""
_MOST_BYTES = 2**22


class PerfMap:
    """Names of this process's compiled code: each as ``NAME I of N``, in the order in which they were compiled."""

    def __init__(self, text: str) -> None:
        found = [match for line in text[:_MOST_BYTES].splitlines() if (match := _LINE.fullmatch(line))]
        names = [_NUMBER.sub("", match[3]) for match in found]
        totals, seen = collections.Counter(names), collections.Counter[str]()
        functions: dict[int, tuple[int, str]] = {}  # the last that was compiled at an address is the one there
        for match, name in zip(found, names, strict=True):
            seen[name] += 1
            functions[int(match[1], 16)] = int(match[2], 16), f"{name} {seen[name]} of {totals[name]}"
        self._functions = sorted((start, start + size, name) for start, (size, name) in functions.items())
        self._starts = [start for start, _, _ in self._functions]

    def at(self, address: int) -> tuple[int, str] | None:
        """Where the function around an address begins, and its name; ``None`` where none is known."""
        place = bisect_right(self._starts, address) - 1
        if place < 0 or address >= self._functions[place][1]:
            return None
        start, _, name = self._functions[place]
        return start, name


def own_perf_map() -> PerfMap:
    """Read what this process's libraries have written; the file goes, since nobody else will remove it."""
    path = Path(f"/tmp/perf-{os.getpid()}.map")  # noqa: S108 - its place is perf's
    try:
        if path.lstat().st_uid != os.getuid():  # somebody else laid it there
            return PerfMap("")
        text = path.read_text("utf-8", "replace")
        path.unlink()
    except OSError:
        return PerfMap("")
    return PerfMap(text)
