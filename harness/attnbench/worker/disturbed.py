"""What disturbed the timed window: counters of the operating system, read before and after."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Count forced context switches and page faults that went to disk; the dictionary is filled on leaving."""
    counts: dict[str, int] = {}
    if sys.platform == "win32":  # has no getrusage: the fields stay absent
        yield counts
        return
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF)
    yield counts
    after = resource.getrusage(resource.RUSAGE_SELF)
    counts["involuntary_switches"] = after.ru_nivcsw - before.ru_nivcsw
    counts["major_faults"] = after.ru_majflt - before.ru_majflt
