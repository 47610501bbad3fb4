"""Regular expressions from untrusted sources, matched within a time limit."""

from __future__ import annotations

import functools
import re

import regex

_LONGEST = 1000
_TIMEOUT_S = 1.0
"""Time limit of a match, far more than any sensible pattern needs for a name."""


class PatternError(ValueError):
    """A match exceeds its time or memory limit."""


def pattern_mistake(text: str) -> str | None:
    """Return why a text is not a valid Python regular expression, or ``None``."""
    if len(text) > _LONGEST:
        return f"it has {len(text):,} characters, more than {_LONGEST:,}"
    try:
        re.compile(text)
        _compiled(text)
    except (re.error, regex.error, OverflowError) as error:
        return str(error)
    except RecursionError:
        return "its brackets are nested too deeply"
    return None


@functools.lru_cache(65536)
def found_in(text: str, name: str) -> bool:
    """Whether a regular expression matches some part of a name.

    Raises:
        PatternError: if that takes more than a second.
    """
    try:
        return _compiled(text).search(name, timeout=_TIMEOUT_S) is not None
    except (TimeoutError, MemoryError):
        raise PatternError(f"to look for it in {name!r} takes too long") from None


@functools.lru_cache(1024)
def _compiled(text: str) -> regex.Pattern[str]:
    # The library regex has a time limit, unlike Python's re.
    return regex.compile(text)
