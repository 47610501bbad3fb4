"""Made-up points for tests."""

from __future__ import annotations

from typing import Any

from attnbench.history.point import Point

MIB = 2**20


def revision(number: int) -> str:
    """Return a hash that begins with the number."""
    return f"{number:010x}" + 30 * "0"


def point(number: int, anchor: int = 0, log_ratio: float | None = None, se: float = 0.01, **fields: Any) -> Point:
    """Return the point of commit ``number``; without a ratio, it was not timed."""
    usual: dict[str, Any] = {
        "revision": revision(number), "place": number, "date": "2026-11-01T12:00:00+00:00",
        "subject": f"Commit {number}", "anchor": revision(anchor), "segment": "s1", "sweep": "w",
        "code": f"code{number}",
        "measured_at": f"2026-11-01T12:00:{number % 60:02}", "case_id": "c0ffee000000", "implementation": "mine/plain",
        "device": "cpu", "label": "mine/plain, forward", "status": "ok", "rounds": 4,
    }  # fmt: skip
    if log_ratio is not None:
        usual |= {"log_ratio": log_ratio, "se": se, "time_ns": 1e6}
    return Point(**usual | fields)
