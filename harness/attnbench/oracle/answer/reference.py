"""The answer of a case, head by head."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from attnbench.cases.inputs.operands import operand_head
from attnbench.oracle.answer.bias import summed_over_broadcast_axes
from attnbench.oracle.answer.heads import (
    errors_of_storing,
    keys_or_values,
    one_head,
    root_of_squares,
    rounded,
    sum_of,
)
from attnbench.oracle.answer.multihead import multi_head_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.answer.arithmetic import Answer, Arithmetic
    from attnbench.oracle.selection import Selection


VALUE_NORMS = "value_norms"
"""In the first answer: the RMS length of each group's values, (groups,)."""
Queries = Callable[[int, int], "NDArray[np.floating]"]
"""The queries of a batch element and a head, (seqlen_q, head_dim)."""


def reference(
    case: Case, selection: Selection, repetition: int, arithmetic: Arithmetic, *, inputs_of: Case | None = None
) -> dict[str, Tensor]:
    """The right values of the selected parts of the output.

    ``inputs_of`` is the case whose queries, keys and values these are, where it is another one: some families depend on
    the mask.

    Returns:
        Float64 tensors by name. ``out``, ``dq``: (query heads, rows, columns); ``lse``: (query heads, rows);
        ``dk``, ``dv``: (groups, keys, columns); ``dbias``: as the bias,
        its first two axes as one; for each of these, exact ones also ``NAME_terms`` without columns and
        ``NAME_stored`` with two, see :mod:`attnbench.oracle.answer.arithmetic`. The first axis follows the selection's
        order. Behind projections the first axis is the batch element.
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
    """Like :func:`reference`, computed in several ways from inputs that are drawn once: drawing is half of the time.

    ``queries`` take the place of the case's own; behind projections there are no others. ``kept`` (query heads, rows,
    seqlen_kv) are the factors of the weights with dropout.
    """
    if case.operator == "multi_head_attention":
        return [multi_head_reference(case, selection, repetition, arithmetic) for arithmetic in arithmetics]
    import torch

    source = inputs_of or case
    found = [_Parts() for _ in arithmetics]
    size = case.heads_q // case.heads_kv
    for batch_index, kv_head in selection.groups:
        k = keys_or_values(case, operand_head(source, "k", batch_index, kv_head, repetition))
        v = keys_or_values(case, operand_head(source, "v", batch_index, kv_head, repetition))
        # Dequantised on the way into a tile, K and V are rounded to the dtype; others have it already.
        seen = [(k, v) if case.kv_dtype is None else (one.store(k), one.store(v)) for one in arithmetics]
        groups: list[list[Answer]] = [[] for _ in arithmetics]
        for head in range(kv_head * size, (kv_head + 1) * size):
            factors = None if kept is None else kept[len(found[0]["out"]) + len(groups[0])]
            own = queries or (lambda b, h: operand_head(source, "q", b, h, repetition))
            q = rounded(case, own(batch_index, head))
            dout = None
            if case.needs_gradients:
                dout = rounded(case, operand_head(source, "dout", batch_index, head, repetition))
            for arithmetic, group, kv in zip(arithmetics, groups, seen, strict=True):
                group.append(one_head(case, arithmetic, (batch_index, head), selection, q, *kv, dout, factors))
        found[0][VALUE_NORMS].append(v.square().sum(-1).mean().sqrt())
        for arithmetic, group, parts in zip(arithmetics, groups, found, strict=True):
            _add_group(parts, case, group, arithmetic, gradients_of_keys=selection.gradients_of_keys)
    answers = [{name: torch.stack(tensors) for name, tensors in parts.items()} for parts in found]
    if "dbias" in found[0]:
        for arithmetic, answer in zip(arithmetics, answers, strict=True):
            answer.update(summed_over_broadcast_axes(case, arithmetic, answer))
    return answers


class _Parts(defaultdict[str, "list[Tensor]"]):
    """Tensors by name, those of each head or group in the selection's order."""

    def __init__(self) -> None:
        super().__init__(list)


def _add_group(
    parts: _Parts, case: Case, group: list[Answer], arithmetic: Arithmetic, *, gradients_of_keys: bool
) -> None:
    """The answers of the query heads that share a head of K and V."""
    for answer in group:
        parts["out"].append(answer.out)
        parts["lse"].append(answer.lse)
        if answer.dq is not None:
            parts["dq"].append(answer.dq)
        if answer.dbias is not None:
            parts["dbias"].append(answer.dbias)
    terms = [answer.terms for answer in group if answer.terms is not None]
    for of_head in terms:
        parts["out_terms"].append(of_head.out)
        for name in {"out", "dq"} & of_head.stored.keys():
            parts[f"{name}_stored"].append(of_head.stored[name])
        parts["lse_terms"].append(of_head.lse)
        if of_head.dq is not None:
            parts["dq_terms"].append(of_head.dq)
        if of_head.dbias is not None:
            parts["dbias_terms"].append(of_head.dbias)
    if gradients_of_keys:
        # The heads of a group share their keys, so that the gradients of all of them add up: where keys were repeated
        # for each head, as torch and FlashAttention-2 do, what is added up was stored before.
        for name in ("dk", "dv"):
            gradients = [getattr(answer, name) for answer in group]
            parts[name].append(arithmetic.store(sum_of(list(map(arithmetic.store, gradients)))))
            if terms:
                of_heads = [getattr(of_head, name) for of_head in terms]
                parts[f"{name}_terms"].append(root_of_squares([*of_heads, *errors_of_storing(case, gradients)]))
                parts[f"{name}_stored"].append(sum_of([of_head.stored[name] for of_head in terms]))
