"""The answer with projections: operator ``multi_head_attention``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from attnbench.cases.inputs.operands import operand
from attnbench.oracle.answer.heads import attend_heads, root_of_squares, rounded

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.answer.arithmetic import Arithmetic
    from attnbench.oracle.selection import Selection


def multi_head_reference(
    case: Case, selection: Selection, repetition: int, arithmetic: Arithmetic
) -> dict[str, Tensor]:
    """Project, attend, concatenate, project (Vaswani et al. 2017, section 3.2.2).

    Returns:
        Float64 tensors by name: ``out``, ``dq`` (batch elements, rows, embed_dim), ``dk``, ``dv`` (batch elements,
        keys, embed_dim), where gradients are those of the three inputs. In exact arithmetic also ``NAME_terms``, which
        has no axis of columns.
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
        answer = attend_heads(
            case,
            arithmetic,
            tuple((batch_index, head) for head in range(case.heads_q)),
            selection,
            q,
            k.repeat_interleave(size, 0),
            v.repeat_interleave(size, 0),
            dconcat,
        )
        parts["out"].append(matmul(_joined(answer.out), w_o))
        # The projections' weights have unit variance per output, so they keep the size of independent errors.
        terms = answer.terms
        if terms is not None:
            parts["out_terms"].append(root_of_squares(terms.out))
            for name in ("out", "dq", "dk", "dv") if selection.gradients_of_keys else ("out", "dq"):
                if name in terms.stored:
                    parts[f"{name}_stored"].append(terms.stored[name].sum(0))
        if answer.dq is None:
            continue
        parts["dq"].append(matmul(_joined(answer.dq), w_q.T))
        if terms is not None and terms.dq is not None:
            parts["dq_terms"].append(root_of_squares(terms.dq))
        if not selection.gradients_of_keys:
            continue
        for name, projection in (("dk", w_k), ("dv", w_v)):
            of_heads: Tensor = arithmetic.store(getattr(answer, name))
            groups = of_heads.reshape(case.heads_kv, size, *of_heads.shape[1:])
            parts[name].append(matmul(_joined(arithmetic.store(groups.sum(1))), projection.T))
            if terms is not None:
                parts[f"{name}_terms"].append(root_of_squares(getattr(terms, name)))
    return {name: torch.stack(tensors) for name, tensors in parts.items()}


def _heads(x: Tensor, heads: int) -> Tensor:
    """Reshape (seqlen, heads * dim) to (heads, seqlen, dim)."""
    return x.reshape(x.shape[0], heads, -1).swapaxes(0, 1)


def _joined(x: Tensor) -> Tensor:
    """Reshape (heads, seqlen, dim) to (seqlen, heads * dim)."""
    return x.swapaxes(0, 1).flatten(1)
