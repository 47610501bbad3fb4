"""The gradient of a bias: the gradient of the scores, summed over the axes along which the bias is broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.bias import tensor_bias

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.answer.arithmetic import Arithmetic


def summed_over_broadcast_axes(case: Case, arithmetic: Arithmetic, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum the gradients of all query heads to ``dbias``, and to ``dbias_terms`` and ``dbias_stored`` if they are known.

    The errors of different rows are independent. Those of one row are not, as they share its LSE and delta: where keys
    share a bias, the errors of a row add up linearly.

    Args:
        case: the problem.
        arithmetic: how it is computed.
        parts: ``dbias`` (query heads, seqlen_q, seqlen_kv) and, in exact arithmetic, the variances ``dbias_terms`` with
            another axis of length 2.
    """
    import torch

    shape = tensor_bias(case).shape

    def added(of_scores: Tensor) -> Tensor:
        whole = of_scores.reshape(case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv)
        return whole.sum_to_size(*shape).flatten(0, 1)

    found = {"dbias": arithmetic.store(added(parts["dbias"]))}
    if "dbias_terms" in parts:
        of_errors, of_storing = parts["dbias_terms"].unbind(-1)
        if shape[-1] < case.seqlen_kv:
            of_errors = of_errors.sqrt().sum(-1, keepdim=True).square().expand_as(of_errors) / case.seqlen_kv
        found["dbias_terms"] = added(of_errors).sum(-1).sqrt()
        stored = added(of_storing)
        variance = stored.sum(-1)
        along_one = stored.square().sum(-1) / torch.where(variance == 0, 1.0, variance)
        found["dbias_stored"] = torch.stack([variance, along_one], -1)
    return found
