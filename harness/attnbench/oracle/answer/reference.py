"""Computes the answer of a case, a few heads at a time."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.inputs.operands import operand_head
from attnbench.cases.masks.visible import batch_varies
from attnbench.oracle.answer.bias import summed_over_broadcast_axes
from attnbench.oracle.answer.heads import TOGETHER_PAIRS, attend_heads, errors_of_storing, keys_or_values, rounded
from attnbench.oracle.answer.multihead import multi_head_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.answer.arithmetic import Answer, Arithmetic
    from attnbench.oracle.selection import Selection


VALUE_NORMS = "value_norms"
"""Key, in the first answer only, of the RMS length of each group's values, (groups,)."""
Queries = Callable[[int, int], "NDArray[np.floating]"]
"""Returns the queries of a batch element and a query head, (seqlen_q, head_dim)."""


def reference(
    case: Case, selection: Selection, repetition: int, arithmetic: Arithmetic, *, inputs_of: Case | None = None
) -> dict[str, Tensor]:
    """Return the correct values of the selected parts of the outputs.

    The inputs are drawn for the case ``inputs_of``, by default the case itself: some input families depend on the mask.

    Returns:
        Float64 tensors by name. ``out``, ``dq``: (query heads, rows, columns); ``lse``: (query heads, rows);
        ``dk``, ``dv``: (groups, keys, columns); ``dbias``: the bias's shape with the first two axes merged. In exact
        arithmetic, each also has ``NAME_terms``, without columns, and ``NAME_stored``, with two, see
        :mod:`attnbench.oracle.answer.arithmetic`. The first axis is in the selection's order; with projections it is
        the batch element.
    """
    (answer,) = references(case, selection, repetition, [arithmetic], inputs_of=inputs_of)
    return answer


def references(
    case: Case,
    selection: Selection,
    repetition: int,
    arithmetics: Sequence[Arithmetic],
    *,
    inputs_of: Case | None = None,
    queries: Queries | None = None,
    kept: Tensor | None = None,
) -> list[dict[str, Tensor]]:
    """Return :func:`reference` for several arithmetics; inputs are drawn only once, which takes half of the time.

    ``queries`` replaces the case's own queries, but not with projections. ``kept`` (query heads, rows, seqlen_kv) holds
    the factors of the weights, with dropout.
    """
    if case.operator == "multi_head_attention":
        return [multi_head_reference(case, selection, repetition, arithmetic) for arithmetic in arithmetics]
    import torch

    source = inputs_of or case
    found = [_Parts() for _ in arithmetics]
    size = case.heads_q // case.heads_kv
    own = queries or (lambda b, h: operand_head(source, "q", b, h, repetition))
    first = 0
    for groups in _together(case, selection):
        where = tuple((b, kv_head * size + head) for b, kv_head in groups for head in range(size))
        k, v = (
            keys_or_values(case, np.stack([operand_head(source, name, *group, repetition) for group in groups]))
            for name in ("k", "v")
        )
        q, dout = rounded(case, np.stack([own(*one) for one in where])), None
        if case.needs_gradients:
            dout = rounded(case, np.stack([operand_head(source, "dout", *one, repetition) for one in where]))
        factors = None if kept is None else kept[first : first + len(where)]
        first += len(where)
        found[0][VALUE_NORMS].append(v.square().sum(-1).mean(-1).sqrt())
        for arithmetic, parts in zip(arithmetics, found, strict=True):
            # Quantised K and V are rounded to the dtype when a kernel dequantises them into a tile; others have it.
            seen = (k, v) if case.kv_dtype is None else (arithmetic.store(k), arithmetic.store(v))
            keys, values = (x if size == 1 else x.repeat_interleave(size, 0) for x in seen)
            heads = attend_heads(case, arithmetic, where, selection, q, keys, values, dout, factors)
            _add(parts, case, heads, arithmetic, gradients_of_keys=selection.gradients_of_keys)
    answers = [{name: torch.cat(tensors) for name, tensors in parts.items()} for parts in found]
    if "dbias" in found[0]:
        for arithmetic, answer in zip(arithmetics, answers, strict=True):
            answer.update(summed_over_broadcast_axes(case, arithmetic, answer))
    return answers


def _together(case: Case, selection: Selection) -> list[tuple[tuple[int, int], ...]]:
    """Return the selected groups in tuples that are computed together: a few groups with the same mask."""
    rows = case.seqlen_q if selection.rows is None else len(selection.rows)
    pairs = case.heads_q // case.heads_kv * rows * case.seqlen_kv
    of_a_mask = itertools.groupby(selection.groups, lambda group: group[0] if batch_varies(case) else None)
    count = max(1, TOGETHER_PAIRS // max(1, pairs))
    alike = [tuple(groups) for _, groups in of_a_mask]
    return [groups[start : start + count] for groups in alike for start in range(0, len(groups), count)]


class _Parts(defaultdict[str, "list[Tensor]"]):
    """Lists of tensors by name, one per head or group, in the selection's order."""

    def __init__(self) -> None:
        super().__init__(list)


def _add(parts: _Parts, case: Case, answer: Answer, arithmetic: Arithmetic, *, gradients_of_keys: bool) -> None:
    """Add the answers of some whole groups: of all their query heads, and the gradients of each group's keys."""
    terms = answer.terms
    for name in ("out", "lse", "dq", "dbias"):
        if (of_heads := getattr(answer, name)) is not None:
            parts[name].append(of_heads)
        if terms is not None and (deviations := getattr(terms, name)) is not None:
            parts[f"{name}_terms"].append(deviations)
    stored = {} if terms is None else terms.stored
    for name in {"out", "dq"} & stored.keys():
        parts[f"{name}_stored"].append(stored[name])
    if not gradients_of_keys:
        return
    # The query heads of a group share keys, so their gradients are summed. Implementations that repeat keys for each
    # head, such as torch and FlashAttention-2, store each head's gradient before the sum.
    size = case.heads_q // case.heads_kv

    def by_group(of_heads: Tensor) -> Tensor:
        return of_heads.reshape(len(of_heads) // size, size, *of_heads.shape[1:])

    for name in ("dk", "dv"):
        gradients = by_group(getattr(answer, name))
        parts[name].append(arithmetic.store(arithmetic.store(gradients).sum(1)))
        if terms is not None:
            variances = by_group(getattr(terms, name)).square().sum(1)
            parts[f"{name}_terms"].append((variances + errors_of_storing(case, gradients)).sqrt())
            parts[f"{name}_stored"].append(by_group(stored[name]).sum(1))
