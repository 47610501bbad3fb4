"""How a plug-in is named: a file, and perhaps one of the implementations in it."""

from __future__ import annotations

from pathlib import Path


def file_and_name(plugin: str) -> tuple[str, str]:
    """The file and the implementation that is asked for, or an empty text; a path may hold colons.

    ``FILE.py``, ``FILE.py:family/variant`` and ``FILE.py::family/variant`` are understood.
    """
    if Path(plugin).exists():
        return plugin, ""
    for sign in ("::", ".py:", ":"):
        path, found, name = plugin.rpartition(sign)
        if found:
            return path + sign.rstrip(":"), name
    return plugin, ""
