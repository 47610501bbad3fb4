"""Levels that no case can have together, known without drawing one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.covering.axes import ABSENT
from attnbench.covering.tables import (
    DIM_AXES,
    HEAD_AXES,
    KIND_OF,
    MOST_PAIRS,
    dims_of,
    fewest_sequences,
    heads_of,
    lengths_of,
    mask_options,
    room,
    widest_head,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.registry.implementation import Declaration

NEEDS = {
    "mode": ("forward", (("kv_cache", "dense"), ("kv_dtype", "none"))),
    "operator": (
        "attention",
        (("kv_cache", "dense"), ("kv_dtype", "none"), ("strides", "contiguous"), ("inputs", "normal")),
    ),
    "kv_dtype": (
        "none",
        (("mode", "forward"), ("operator", "attention"), ("kv_cache", "dense"), ("strides", "contiguous")),
    ),
    "kv_cache": (
        "dense",
        (("mode", "forward"), ("operator", "attention"), ("kv_dtype", "none"), ("strides", "contiguous")),
    ),
    "strides": ("contiguous", (("operator", "attention"), ("kv_cache", "dense"), ("kv_dtype", "none"))),
    "inputs": ("normal", (("operator", "attention"),)),
    "documents": (ABSENT, (("lengths", "equal"), ("alignment", ABSENT))),
    "requests": (ABSENT, (("batch", "1"), ("alignment", ABSENT), ("rows without keys", "no"))),
}
"""For each axis, its plain level, and the levels of other axes that its other levels need, or ``make_case`` refuses."""
DECLARED = {"operator": "operators", "mode": "modes", "dtype": "dtypes", "kv_dtype": "kv_dtypes", "strides": "strides"}
"""Axes whose levels are declared, with the declaration's names of them."""


def contradicts(wanted: Mapping[str, str], said: Declaration) -> bool:
    """Return whether no draw can have these levels.

    That is so if one is not declared, or if no kind of mask, or no sizes that are small enough, have them.
    """

    def part(*axes: str) -> tuple[str | None, ...]:
        return tuple(wanted.get(axis) for axis in axes)

    if with_needs(wanted) is None or any(
        name in wanted and wanted[name] not in getattr(said, field) for name, field in DECLARED.items()
    ):
        return True
    if not mask_options(said.masks, said.mask_intersections, part("mask", *KIND_OF)):
        return True
    queries, keys = lengths_of(*part("seqlen_q", "end of queries")), lengths_of(*part("seqlen_kv", "end of keys"))
    same = [part("seqlen_q", "seqlen_kv"), part("end of queries", "end of keys")]
    unlike = wanted.get("lengths") == "equal" and any(len({*levels} - {None}) > 1 for levels in same)
    if unlike or not (queries and keys):
        return True
    pairs = fewest_sequences(wanted.get("batch", "1")) * queries[0] * keys[0]
    heads = heads_of(part(*HEAD_AXES), room(MOST_PAIRS / pairs))
    if not heads:
        return True
    fewest = min(heads_q for heads_q, _ in heads), min(heads_kv for _, heads_kv in heads)
    tokens = fewest_sequences(wanted.get("batch", "1")) * (fewest[0] * queries[0] + fewest[1] * keys[0])
    return not dims_of(part(*DIM_AXES), room(widest_head(pairs * fewest[0], tokens)))


def with_needs(wanted: Mapping[str, str]) -> dict[str, str] | None:
    """Return the wanted levels and those that they need on other axes, or ``None`` if they contradict each other."""
    levels = {**wanted}
    for axis, (plain, needs) in NEEDS.items():
        if wanted.get(axis, plain) != plain and any(levels.setdefault(other, one) != one for other, one in needs):
            return None
    return levels
