"""The answer of a case, head by head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.operands import operand_head
from attnbench.oracle.answer.heads import one_head, root_of_squares, rounded, sum_of
from attnbench.oracle.answer.multihead import multi_head_reference

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.answer.arithmetic import Answer, Arithmetic
    from attnbench.oracle.selection import Selection


def reference(
    case: Case, selection: Selection, repetition: int, arithmetic: Arithmetic, *, inputs_of: Case | None = None
) -> dict[str, Tensor]:
    """The right values of the selected parts of the output.

    Args:
        case: the problem.
        selection: what is wanted of the answer.
        repetition: which inputs.
        arithmetic: how it is computed.
        inputs_of: the case whose queries, keys and values these are, where it is another one: some families depend on
            the mask.

    Returns:
        Float64 tensors by name. ``out``, ``dq``: (query heads, rows, columns); ``lse``: (query heads, rows);
        ``dk``, ``dv``: (groups, keys, columns); for each of these, exact ones also ``NAME_terms`` without columns, see
        :func:`attnbench.oracle.answer.arithmetic.term_sizes`. The first axis follows the selection's order.
        Behind projections the first axis is the batch element.
    """
    if case.operator == "multi_head_attention":
        return multi_head_reference(case, selection, repetition, arithmetic)
    import torch

    source = inputs_of or case
    names = ("out", "lse", "dq", "dk", "dv", "out_terms", "lse_terms", "dq_terms", "dk_terms", "dv_terms")
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    size = case.heads_q // case.heads_kv
    for batch_index, kv_head in selection.groups:
        k = rounded(case, operand_head(source, "k", batch_index, kv_head, repetition))
        v = rounded(case, operand_head(source, "v", batch_index, kv_head, repetition))
        group: list[Answer] = []
        for head in range(kv_head * size, (kv_head + 1) * size):
            q = rounded(case, operand_head(source, "q", batch_index, head, repetition))
            dout = None
            if case.needs_gradients:
                dout = rounded(case, operand_head(source, "dout", batch_index, head, repetition))
            group.append(one_head(case, arithmetic, (batch_index, head), selection, q, k, v, dout))
        parts["out"] += [answer.out for answer in group]
        parts["lse"] += [answer.lse for answer in group]
        parts["dq"] += [answer.dq for answer in group if answer.dq is not None]
        terms = [answer.terms for answer in group if answer.terms is not None]
        parts["out_terms"] += [of_head.out for of_head in terms]
        parts["lse_terms"] += [of_head.lse for of_head in terms]
        parts["dq_terms"] += [of_head.dq for of_head in terms if of_head.dq is not None]
        if selection.gradients_of_keys:
            # The heads of a group share their keys, so that the gradients of all of them add up.
            parts["dk"].append(arithmetic.store(sum_of([a.dk for a in group])))
            parts["dv"].append(arithmetic.store(sum_of([a.dv for a in group])))
            if terms:
                parts["dk_terms"].append(root_of_squares([of_head.dk for of_head in terms]))
                parts["dv_terms"].append(root_of_squares([of_head.dv for of_head in terms]))
    return {name: torch.stack(tensors) for name, tensors in parts.items() if tensors}
