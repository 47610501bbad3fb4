"""Axes: properties in which cases differ, each with the few levels that kernels treat differently.

A level is computed from a finished case, so that any case can be classified, whatever its origin.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.choices import CHOICES, INPUT_FAMILIES
from attnbench.cases.masks.visible import any_visible, batch_varies
from attnbench.cases.requests import parse_requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.cases.case import Case

ABSENT = "-"
HEAD_DIMS = (8, 16, 32, 40, 64, 72, 80, 96, 128, 192, 256)
"""Values below, at, between and beyond the widths of vectors and tiles; all others form two more levels."""
_PLAIN_PAGE = 16


@dataclasses.dataclass(frozen=True)
class Axis:
    """A property in which cases differ."""

    name: str
    levels: tuple[str, ...]
    level: Callable[[Case], str]
    """Returns the level of a case, one of ``levels``."""


def levels_of(case: Case) -> dict[str, str]:
    """Return the level of a case on every axis."""
    return {axis.name: axis.level(case) for axis in AXES}


def _field(name: str) -> Axis:
    return Axis(name, CHOICES[name], lambda case: str(getattr(case, name)))


@functools.cache
def _bounds(*bounds: int) -> tuple[str, ...]:
    """Return the names of the ranges that end at these bounds, and of the one beyond."""
    names, low = [], 1
    for bound in bounds:
        names.append(str(bound) if low == bound else f"{low} to {bound}")
        low = bound + 1
    return (*names, f"{low} and more")


def _range(size: int, bounds: tuple[int, ...]) -> str:
    return _bounds(*bounds)[sum(size > bound for bound in bounds)]


def _ranges(name: str, bounds: tuple[int, ...], size: Callable[[Case], int]) -> Axis:
    return Axis(name, _bounds(*bounds), lambda case: _range(size(case), bounds))


def _mask(case: Case) -> str:
    return case.mask if len(case.mask_kinds) == 1 else "intersection"


def _window(case: Case) -> str:
    left, right = case.window_left, case.window_right
    if left is None or right is None:
        return ABSENT
    if left >= case.seqlen_kv:
        return "beyond the keys"
    return {(True, True): "both sides", (True, False): "left", (False, True): "right"}.get(
        (left > 0, right > 0), "diagonal"
    )


def _prefix(case: Case) -> str:
    if case.prefix_len is None:
        return ABSENT
    return "none" if not case.prefix_len else "all keys" if case.prefix_len == case.seqlen_kv else "some keys"


def _documents(case: Case) -> str:
    if case.document_lengths is None:
        return ABSENT
    count = len(case.document_lengths)
    if count == 1:
        return "one"
    return ("2 to 4" if count <= 4 else "5 and more") + (" causal" if case.document_causal else "")


def _padding(case: Case) -> str:
    lengths = case.kv_lengths
    if lengths is None:
        return ABSENT
    if not any(lengths):
        return "all empty"
    if lengths[-1] == 0:
        return "last empty"
    if 0 in lengths:
        return "another empty"
    return "none" if min(lengths) == case.seqlen_kv else "some"


def _left_padding(case: Case) -> str:
    starts = case.kv_starts
    if starts is None:
        return ABSENT
    if max(starts) == case.seqlen_kv:
        return "a whole sequence"
    return "some" if any(starts) else "none"


def _tree(case: Case) -> str:
    parents = case.tree_parents
    if parents is None:
        return ABSENT
    if parents == tuple(range(-1, len(parents) - 1)):
        return "chain"
    return "roots" if set(parents) == {-1} else "branches"


def _blocks(case: Case) -> str:
    if case.mask_block_size is None:
        return ABSENT
    return "parts of tiles" if case.mask_block_size % 64 else "whole tiles"


def _requests(case: Case) -> str:
    if case.requests is None:
        return ABSENT
    batch = parse_requests(case.requests)
    if sum(one.number for one in batch) == 1:
        return "one"
    return "decodes" if all(one.request_class == "decode" for one in batch) else "longer ones too"


@functools.lru_cache(maxsize=4096)
def _queries_without_keys(case: Case) -> tuple[bool, bool]:
    """Return whether some query sees no key, and whether no query sees any."""
    if case.mask == "none":
        return False, False
    elements = range(case.batch if batch_varies(case) else 1)
    seeing = np.concatenate([any_visible(case, batch_index) for batch_index in elements])
    return not seeing.all(), not seeing.any()


def _sees_no_keys(case: Case) -> str:
    return "yes" if _queries_without_keys(case)[0] else "no"


def sees_nothing(case: Case) -> bool:
    """Whether no query sees a key: all answers are then zero, which hides other mistakes."""
    return _queries_without_keys(case)[1]


def _alignment(case: Case) -> str:
    return case.alignment if case.on_diagonal and case.seqlen_q != case.seqlen_kv else ABSENT


def _score_mod(case: Case) -> str:
    if len(case.score_mods) > 1:
        return "combination"
    return "softcap that bends" if case.softcap is not None and case.softcap < 10 else case.score_mod


def _kv_cache(case: Case) -> str:
    return case.kv_cache if case.page_size in (None, _PLAIN_PAGE) else "paged, other size"


def _scale(case: Case) -> str:
    return "default" if case.scale == 1.0 / math.sqrt(case.head_dim) else "given"


def _heads_q(case: Case) -> str:
    heads = case.heads_q
    if heads >= 24:
        return "24 and more"
    return "a power of 2" if heads & (heads - 1) == 0 else "another, below 24"


def _group(case: Case) -> str:
    group = case.heads_q // case.heads_kv
    return str(group) if group <= 8 else "9 and more"


def _head_dim(case: Case) -> str:
    if case.head_dim in HEAD_DIMS:
        return str(case.head_dim)
    return "not a multiple of 8" if case.head_dim % 8 else "another multiple of 8"


def _value_dims(case: Case) -> str:
    return ("equal", "wider", "narrower")[(case.head_dim_v > case.head_dim) - (case.head_dim_v < case.head_dim)]


def _lengths(case: Case) -> str:
    sign = (case.seqlen_q > case.seqlen_kv) - (case.seqlen_q < case.seqlen_kv)
    return ("equal", "more queries", "more keys")[sign]


def residue(length: int) -> str:
    """Return the class of a length's remainder in tiles of 64 and 128."""
    if length % 64 == 0:
        return f"{length % 128} of 128"
    if length % 64 in (1, 63):
        return f"{length % 64} of 64"
    return "16, 32 or 48 of 64" if length % 16 == 0 else "other"


def length_range(length: int) -> str:
    """Return the name of the range that contains a length."""
    return _range(length, _LENGTHS)


_LENGTHS = (1, 8, 64, 256, 1024)
LENGTH_RANGES = _bounds(*_LENGTHS)
RESIDUES = tuple(dict.fromkeys(map(residue, (1, 2, 16, 63, 64, 128))))
AXES: tuple[Axis, ...] = (
    _field("operator"),
    _field("mode"),
    _field("dtype"),
    Axis("mask", (*CHOICES["mask"], "intersection"), _mask),
    Axis("causal", (ABSENT, "yes"), lambda case: "yes" if "causal" in case.mask_kinds else ABSENT),
    Axis("window", (ABSENT, "left", "right", "both sides", "diagonal", "beyond the keys"), _window),
    Axis("prefix", (ABSENT, "none", "some keys", "all keys"), _prefix),
    Axis("documents", (ABSENT, "one", "2 to 4", "5 and more", "2 to 4 causal", "5 and more causal"), _documents),
    Axis("padding", (ABSENT, "none", "some", "another empty", "last empty", "all empty"), _padding),
    Axis("left padding", (ABSENT, "none", "some", "a whole sequence"), _left_padding),
    Axis("tree", (ABSENT, "chain", "roots", "branches"), _tree),
    Axis("blocks", (ABSENT, "whole tiles", "parts of tiles"), _blocks),
    Axis("requests", (ABSENT, "one", "decodes", "longer ones too"), _requests),
    Axis("rows without keys", ("no", "yes"), _sees_no_keys),
    Axis("alignment", (ABSENT, *CHOICES["alignment"]), _alignment),
    Axis("score_mod", (*CHOICES["score_mod"], "softcap that bends", "combination"), _score_mod),
    Axis("kv_cache", (*CHOICES["kv_cache"], "paged, other size"), _kv_cache),
    Axis("kv_dtype", CHOICES["kv_dtype"], lambda case: case.kv_dtype or "none"),
    _field("strides"),
    Axis("inputs", INPUT_FAMILIES, lambda case: case.inputs),
    Axis("scale", ("default", "given"), _scale),
    _ranges("batch", (1, 3), lambda case: case.batch),
    Axis("heads_q", ("a power of 2", "another, below 24", "24 and more"), _heads_q),
    _ranges("heads_kv", (1, 2), lambda case: case.heads_kv),
    Axis("group", (*map(str, range(1, 9)), "9 and more"), _group),
    Axis("head_dim", (*map(str, HEAD_DIMS), "another multiple of 8", "not a multiple of 8"), _head_dim),
    Axis("value dims", ("equal", "narrower", "wider"), _value_dims),
    _ranges("head_dim_v", (16, 63, 64, 127, 128), lambda case: case.head_dim_v),
    Axis("lengths", ("equal", "more keys", "more queries"), _lengths),
    Axis("seqlen_q", LENGTH_RANGES, lambda case: length_range(case.seqlen_q)),
    Axis("end of queries", RESIDUES, lambda case: residue(case.seqlen_q)),
    Axis("seqlen_kv", LENGTH_RANGES, lambda case: length_range(case.seqlen_kv)),
    Axis("end of keys", RESIDUES, lambda case: residue(case.seqlen_kv)),
)
