"""Checks of names that become parts of paths."""

from __future__ import annotations

_LONGEST = 100


def name_mistake(name: str) -> str | None:
    """Return why a text cannot be the name of a thing and its files, in one sentence, or ``None``."""
    if not name.strip():
        return "it has no character that shows"
    if len(name.encode(errors="replace")) > _LONGEST:
        return f"it is longer than {_LONGEST} bytes"
    if not name.isprintable() or any(character in name for character in "/\\"):
        return "a name must not contain slashes or characters that do not show"
    if name.startswith("."):
        return "a name does not begin with a dot"
    return None
