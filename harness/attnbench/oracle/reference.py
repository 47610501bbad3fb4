"""The answer of a case, head by head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.operands import operand_head
from attnbench.oracle.arithmetic import EXACT
from attnbench.oracle.heads import one_head, root_of_squares, rounded, sum_of
from attnbench.oracle.multihead import multi_head_reference

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.arithmetic import Answer, Arithmetic
    from attnbench.oracle.selection import Selection


def reference(
    case: Case, selection: Selection, repetition: int, arithmetic: Arithmetic, *, inputs_of: Case | None = None
) -> dict[str, Tensor]:
    """What the selected parts of the output ought to be.

    Args:
        case: the problem.
        selection: what is wanted of the answer.
        repetition: which inputs.
        arithmetic: how it is computed.
        inputs_of: the case whose queries, keys and values these are, where it is another one: some families depend on
            the mask.

    Returns:
        Float64 tensors by name. ``out``, ``dq``: (query heads, rows, columns); ``lse``: (query heads, rows);
        ``dk``, ``dv``: (groups, keys, columns); ``dq_terms`` (query heads, rows) and ``dk_terms`` (groups, keys), see
        :func:`attnbench.oracle.arithmetic.term_sizes`. The first axis follows the selection's order. Behind projections
        the first axis is the batch element.
    """
    if case.operator == "multi_head_attention":
        return multi_head_reference(case, selection, repetition, arithmetic)
    import torch

    source = inputs_of or case
    parts: dict[str, list[Tensor]] = {name: [] for name in ("out", "lse", "dq", "dk", "dv", "dq_terms", "dk_terms")}
    size = case.heads_q // case.heads_kv
    for batch_index, kv_head in selection.groups:
        k = arithmetic.load(rounded(case, operand_head(source, "k", batch_index, kv_head, repetition)))
        v = arithmetic.load(rounded(case, operand_head(source, "v", batch_index, kv_head, repetition)))
        group: list[Answer] = []
        for head in range(kv_head * size, (kv_head + 1) * size):
            q = arithmetic.load(rounded(case, operand_head(source, "q", batch_index, head, repetition)))
            dout = None
            if case.needs_gradients:
                dout = arithmetic.load(rounded(case, operand_head(source, "dout", batch_index, head, repetition)))
            group.append(one_head(case, arithmetic, (batch_index, head), selection, q, k, v, dout))
        parts["out"] += [answer.out for answer in group]
        parts["lse"] += [answer.lse for answer in group]
        parts["dq"] += [answer.dq for answer in group if answer.dq is not None]
        parts["dq_terms"] += [answer.dq_terms for answer in group if answer.dq_terms is not None]
        if selection.gradients_of_keys:
            # The heads of a group share their keys, so that the gradients of all of them add up.
            parts["dk"].append(arithmetic.store(sum_of([a.dk for a in group])))
            parts["dv"].append(arithmetic.store(sum_of([a.dv for a in group])))
            if arithmetic is EXACT:
                parts["dk_terms"].append(root_of_squares([a.dk_terms for a in group]))
    return {name: torch.stack(tensors).double() for name, tensors in parts.items() if tensors}
