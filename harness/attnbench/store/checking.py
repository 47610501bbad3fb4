"""The cost of checking as a share of timing, from the shares in footers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CHECKING = {
    "repeats_s": "calls to be judged",
    "shown_s": "copies",
    "oracle_s": "oracle",
    "identities_s": "identities",
}
"""Spent only to see whether the results are right: keys of a footer's shares and their names."""
TIMING = {"first_calls_s": "first calls", "warmup_s": "warm-up", "samples_s": "samples", "memory_s": "memory"}
"""Spent on the numbers: prepare and first calls, warm-up, timed samples, calls whose memory is measured."""


def checking_sentence(shares: Iterable[Mapping[str, float]]) -> str | None:
    """``checking 9.1 s (...), 14 % of timing, which took 65.0 s (...)``, of all sittings of a run.

    ``None`` where nothing was timed, and for runs of versions which did not keep these shares apart.
    """
    sittings = list(shares)
    if not sittings or not all({*CHECKING, *TIMING} <= one.keys() for one in sittings):
        return None
    spent = {key: sum(one[key] for one in sittings) for key in (*CHECKING, *TIMING)}
    if spent["samples_s"] <= 0:
        return None
    checking, timing = sum(spent[key] for key in CHECKING), sum(spent[key] for key in TIMING)
    return (
        f"checking {checking:.1f} s ({_parts(spent, CHECKING)}), {100 * checking / timing:.0f} % of timing, which "
        f"took {timing:.1f} s ({_parts(spent, TIMING)})"
    )


def _parts(spent: Mapping[str, float], names: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {spent[key]:.1f} s" for key, name in names.items())
