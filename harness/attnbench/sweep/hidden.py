"""Warns of masks that hide nearly all pairs, which is probably not intended."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.cases.counting import visible_pairs
from attnbench.cases.inputs.operands import file_problems
from attnbench.units import count
from attnbench.untrusted.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from attnbench.cases.case import Case
    from attnbench.sweep.expand import PlannedCase

SHARE = 0.1
"""A warning is given if less than this share of the probably intended pairs is visible."""


def hidden_pairs(planned: Iterable[PlannedCase]) -> list[str]:
    """Return a sentence for each way in which cases lose most of their query-key pairs, with the first such case."""
    found: dict[str, list[tuple[Case, str]]] = {}
    for one in planned:
        if file_problems(one.case):
            continue  # it is skipped, and its pairs are unknown
        for way, sentence in _losses(one):
            found.setdefault(way, []).append((one.case, sentence))
    return [_told(cases) for cases in found.values()]


def _told(cases: Sequence[tuple[Case, str]]) -> str:
    (first, sentence), *others = cases
    more = f", and {count(len(others), 'more case')}" if others else ""
    return f"{printable(first.label())}{more}: {sentence}"


def _losses(planned: PlannedCase) -> Iterator[tuple[str, str]]:
    """Yield the ways in which a case loses pairs, each with a sentence."""
    case = planned.case
    if case.on_diagonal and case.seqlen_q < case.seqlen_kv and "alignment" not in planned.said:
        seen, meant = visible_pairs(case), visible_pairs(dataclasses.replace(case, alignment="bottom_right"))
        if seen < SHARE * meant:
            sentence = (
                f"with the default alignment = top_left a mask shows {seen:,} of the {meant:,} query-key pairs that "
                "bottom_right shows; write alignment=bottom_right where queries are the last tokens, as in decoding, "
                "or alignment=top_left to have it so"
            )
            yield "alignment", sentence
    if len(case.mask_kinds) > 1:
        alone = {kind: visible_pairs(dataclasses.replace(case, mask=kind)) for kind in case.mask_kinds}
        kind = min(alone, key=lambda name: alone[name])
        seen = visible_pairs(case)
        if seen < SHARE * alone[kind]:
            yield (
                case.mask,
                f"{case.mask} shows {seen:,} of the {alone[kind]:,} query-key pairs that {kind} shows alone",
            )
