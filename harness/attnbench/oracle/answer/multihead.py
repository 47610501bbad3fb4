"""The answer behind projections: operator ``multi_head_attention``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from attnbench.cases.inputs.operands import operand
from attnbench.oracle.answer.heads import one_head, root_of_squares, rounded, sum_of

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.answer.arithmetic import Answer, Arithmetic
    from attnbench.oracle.selection import Selection


def multi_head_reference(
    case: Case, selection: Selection, repetition: int, arithmetic: Arithmetic
) -> dict[str, Tensor]:
    """Project, attend head by head, concatenate, project (Vaswani et al. 2017, section 3.2.2).

    Returns:
        Float64 tensors by name: ``out``, ``dq`` (batch elements, rows, embed_dim), ``dk``, ``dv`` (batch elements,
        keys, embed_dim), gradients being those of the three inputs; exact ones also ``NAME_terms`` without columns.
    """
    import torch

    matmul = arithmetic.matmul
    w_q, w_k, w_v, w_o = (rounded(case, operand(case, name)) for name in ("w_q", "w_k", "w_v", "w_o"))
    inputs = {name: rounded(case, operand(case, name, repetition)) for name in ("q", "k", "v")}
    upstream = rounded(case, operand(case, "dout", repetition)) if case.needs_gradients else None
    size = case.heads_q // case.heads_kv
    parts: defaultdict[str, list[Tensor]] = defaultdict(list)
    for batch_index, _ in selection.groups:
        x_q, x_k, x_v = (inputs[name][batch_index] for name in ("q", "k", "v"))
        q = _heads(matmul(x_q, w_q), case.heads_q)
        k = _heads(matmul(x_k, w_k), case.heads_kv)
        v = _heads(matmul(x_v, w_v), case.heads_kv)
        dconcat = None
        if upstream is not None:
            dconcat = _heads(matmul(upstream[batch_index], w_o.T), case.heads_q)
        heads: list[Answer] = [
            one_head(
                case,
                arithmetic,
                (batch_index, head),
                selection,
                q[head],
                k[head // size],
                v[head // size],
                None if dconcat is None else dconcat[head],
            )
            for head in range(case.heads_q)
        ]
        parts["out"].append(matmul(torch.cat([answer.out for answer in heads], -1), w_o))
        # The projections' weights have unit variance per output, so they keep the size of independent errors.
        terms = [answer.terms for answer in heads if answer.terms is not None]
        if terms:
            parts["out_terms"].append(root_of_squares([of_head.out for of_head in terms]))
            for name in ("out", "dq", "dk", "dv") if selection.gradients_of_keys else ("out", "dq"):
                if name in terms[0].stored:
                    parts[f"{name}_stored"].append(sum_of([of_head.stored[name] for of_head in terms]))
        if dconcat is None:
            continue
        dq = torch.cat([answer.dq for answer in heads if answer.dq is not None], -1)
        parts["dq"].append(matmul(dq, w_q.T))
        if terms:
            parts["dq_terms"].append(root_of_squares([of_head.dq for of_head in terms]))
        if selection.gradients_of_keys:
            groups = [heads[g * size : (g + 1) * size] for g in range(case.heads_kv)]
            for name, projection in (("dk", w_k), ("dv", w_v)):
                added = [sum_of([arithmetic.store(getattr(one, name)) for one in group]) for group in groups]
                parts[name].append(matmul(torch.cat([arithmetic.store(one) for one in added], -1), projection.T))
                if terms:
                    parts[f"{name}_terms"].append(root_of_squares([getattr(of_head, name) for of_head in terms]))
    return {name: torch.stack(tensors) for name, tensors in parts.items()}


def _heads(x: Tensor, heads: int) -> Tensor:
    """(seqlen, heads * dim) to (heads, seqlen, dim)."""
    return x.reshape(x.shape[0], heads, -1).swapaxes(0, 1)
