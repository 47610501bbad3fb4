"""Tables of what has which levels: kinds of masks, lengths, and numbers of heads and their dimensions."""

from __future__ import annotations

import functools
import itertools
import math

from attnbench.cases.case import make_case
from attnbench.covering.axes import ABSENT, AXES, HEAD_DIMS, length_range, residue

_LONGEST = 1100
MOST_PAIRS = 2**19
_MOST_PRODUCTS = 2**25
_MOST_ELEMENTS = 2**20
"""Bounds on a case's size: longest sequence plus one, query-key pairs, products, and elements of its tensors."""
KIND_OF = {
    "causal": "causal",
    "window": "sliding_window",
    "prefix": "prefix_lm",
    "documents": "document",
    "padding": "key_padding",
    "left padding": "left_padding",
    "tree": "tree",
    "blocks": "block_sparse",
    "requests": "ragged",
}
_OTHER_DIMS = (1, 4, 12, 20, 24, 33, 48, 56, 100, 104, 112, 160, 224)
HEAD_AXES = ("heads_q", "heads_kv", "group")
DIM_AXES = ("head_dim", "value dims", "head_dim_v")
_MOST_HEADS = 32
AXIS = {axis.name: axis for axis in AXES}


def fewest_sequences(batch: str) -> int:
    """Return the fewest sequences of a batch of this level."""
    return {"1": 1, "2 to 3": 2}.get(batch, 4)


def widest_head(pairs: int, tokens: int) -> float:
    """Return the largest head_dim within the bounds, for numbers of query-key pairs and of tokens over all heads."""
    return min(_MOST_PRODUCTS / (2 * pairs), _MOST_ELEMENTS / (2 * tokens))


def room(most: float) -> int:
    """Return the largest power of two up to ``most``; powers of two keep the number of cached tables small."""
    return 1 << int(math.log2(min(max(1.0, most), max(HEAD_DIMS))))


@functools.cache
def mask_options(
    masks: tuple[str, ...], intersections: bool, wanted: tuple[str | None, ...]
) -> tuple[tuple[str, ...], ...]:
    """Return the declared sets of one to three kinds of masks that have the wanted levels."""
    options = {tuple(mask.split(" & ")) for mask in masks}
    if intersections:
        kinds = [mask for mask in masks if mask in (*KIND_OF.values(), "tensor") and mask != "ragged"]
        options |= {chosen for count in (2, 3) for chosen in itertools.combinations(kinds, count)}
    mask, *levels = wanted
    present = [(kind, level) for kind, level in zip(KIND_OF.values(), levels, strict=True) if level is not None]
    return tuple(
        sorted(
            option
            for option in options
            if mask is None or (mask == "intersection" and len(option) > 1) or option == (mask,)
            if all((kind in option) == (level != ABSENT) for kind, level in present)
        )
    )


@functools.cache
def lengths_of(size: str | None, end: str | None) -> tuple[int, ...]:
    """Return the lengths in this range with this residue, in ascending order."""
    return tuple(
        length
        for length in range(1, _LONGEST)
        if size in (None, length_range(length)) and end in (None, residue(length))
    )


@functools.cache
def heads_of(wanted: tuple[str | None, ...], most: int) -> tuple[tuple[int, int], ...]:
    """Return pairs of ``heads_q`` and ``heads_kv`` with the wanted levels, smallest first."""
    return tuple(heads for heads, levels in _HEADS.items() if heads[0] <= most and _fits(levels, wanted))


@functools.cache
def dims_of(wanted: tuple[str | None, ...], most: int) -> tuple[tuple[int, int], ...]:
    """Return pairs of ``head_dim`` and ``head_dim_v`` with the wanted levels, equal ones first."""
    return tuple(dims for dims, levels in _DIMS.items() if max(dims) <= most and _fits(levels, wanted))


def _fits(levels: tuple[str, ...], wanted: tuple[str | None, ...]) -> bool:
    return all(one in (None, level) for one, level in zip(wanted, levels, strict=True))


def _levels(axes: tuple[str, ...], **fields: int) -> tuple[str, ...]:
    case = make_case(seqlen_q=1, **fields)
    return tuple(AXIS[axis].level(case) for axis in axes)


_HEADS = {
    (heads_q, heads_kv): _levels(HEAD_AXES, heads_q=heads_q, heads_kv=heads_kv)
    for heads_q in range(1, _MOST_HEADS + 1)
    for heads_kv in range(1, heads_q + 1)
    if heads_q % heads_kv == 0
}
_DIMS = {
    (dim, dim_v): _levels(DIM_AXES, head_dim=dim, head_dim_v=dim_v)
    for dim, dim_v in sorted(
        itertools.product((*HEAD_DIMS, *_OTHER_DIMS), repeat=2), key=lambda both: (both[0] != both[1], max(both))
    )
}
