"""Regular expressions that somebody else wrote: whatever they say, matching ends."""

from __future__ import annotations

import functools
import re

import regex

_LONGEST = 1000
_TIMEOUT_S = 1.0
"""Processor time for a match. An expression that needs it all is not about names."""


class PatternError(ValueError):
    """An expression cannot be looked for in sensible time; one sentence."""


def pattern_mistake(text: str) -> str | None:
    """Why a text is not a valid Python regular expression, or ``None``."""
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
        PatternError: when that takes more than a second.
    """
    try:
        return _compiled(text).search(name, timeout=_TIMEOUT_S) is not None
    except (TimeoutError, MemoryError):
        raise PatternError(f"to look for it in {name!r} takes too long") from None


@functools.lru_cache(1024)
def _compiled(text: str) -> regex.Pattern[str]:
    # The library of this name knows a time limit, which Python's own has not.
    return regex.compile(text)
