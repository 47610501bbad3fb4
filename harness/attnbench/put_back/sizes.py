"""Estimates how far two sound computations of a call typically differ, for a model's own tensors.

Each has the errors of the oracle's low-precision reference on the same rows, and those of sums in any order
(:mod:`attnbench.oracle.answer.arithmetic`), taken as standard deviations, not as bounds. The two computations are
independent, so their difference is larger by the square root of two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnbench.cases.bias import tensor_bias
from attnbench.cases.masks import dense_mask
from attnbench.oracle.answer.arithmetic import Arithmetic, Plane, attend
from attnbench.oracle.budget import measure, roundoff, summed_roundoff

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.interception import AttentionCall

_PLANES = 4
_MOST_ROWS = 64
_MOST_PAIRS = 2**19


def relative_difference(case: Case, call: AttentionCall) -> float:
    """Return the RMS of the difference of two computations of the output over the RMS of the output.

    It is estimated from a sample of rows of some heads, in float64. Scores are taken as stored in the inputs' dtype, as
    the model's own attention may store them.
    """
    heads = [(b, h) for b in range(case.batch) for h in range(case.heads_q)]
    chosen = [heads[i] for i in np.unique(np.linspace(0, len(heads) - 1, _PLANES).astype(int))]
    count = max(1, min(case.seqlen_q, _MOST_ROWS, _MOST_PAIRS // case.seqlen_kv))
    rows = np.unique(np.linspace(0, case.seqlen_q - 1, count).astype(int))
    planes = [_plane(case, call, b, h, rows) for b, h in chosen]
    exact = [attend(Arithmetic(None, stores_scores=True), case, plane) for plane in planes]
    answer = torch.stack([one.out for one in exact])
    deviations = torch.stack([one.terms.out for one in exact if one.terms is not None])
    stored = [0.0]
    for through_lse in (False, True) if case.dtype != "float64" else ():
        arithmetic = Arithmetic(case.dtype, through_lse=through_lse, stores_scores=True)
        computed = torch.stack([attend(arithmetic, case, plane).out for plane in planes])
        stored.append(measure(computed, answer, per_value=False).rel)
    whole = float(answer.norm()) or 1.0
    once = summed_roundoff(case)
    summed = once * math.hypot(math.sqrt(case.seqlen_kv), float(deviations.norm()) / whole)
    return math.sqrt(2) * math.hypot(max(stored), summed, roundoff(case, "out"))


def blind_rows(case: Case) -> torch.Tensor | None:
    """Return which rows see no key, broadcastable to (batch, heads_q, seqlen_q, 1); ``None`` if there are none.

    Their output is undefined.
    """
    seen = dense_mask(case)
    if "bias" in case.score_mods:
        seen = seen & ~np.isneginf(tensor_bias(case))
    blind = torch.from_numpy(~seen.any(-1, keepdims=True))
    return blind if bool(blind.any()) else None


def _plane(case: Case, call: AttentionCall, batch_index: int, head: int, rows: NDArray[np.int64]) -> Plane:
    index = torch.from_numpy(rows)
    kv_head = head // (case.heads_q // case.heads_kv)
    q, k, v = (
        x.detach()[batch_index, h].to("cpu", torch.float64)
        for x, h in ((call.q, head), (call.k, kv_head), (call.v, kv_head))
    )
    hidden = bias = None
    if case.mask != "none":
        seen = dense_mask(case)
        hidden = ~torch.from_numpy(seen[min(batch_index, len(seen) - 1), 0][rows])
    added = _added(case, call)
    if added is not None:
        bias = added[batch_index, head][index].to("cpu", torch.float64).clamp_min(torch.finfo(torch.float32).min)
    sink = None if call.sinks is None else float(call.sinks.reshape(-1)[head])
    return Plane(q=q[index], k=k, v=v, hidden=hidden, bias=bias, sink=sink, dout=None)


def _added(case: Case, call: AttentionCall) -> torch.Tensor | None:
    """Return the sum of the bias and a float mask, which is added to the scores."""
    if "bias" not in case.score_mods:
        return None
    shape = (case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv)
    parts = [
        x if x.is_floating_point() else torch.where(x, 0.0, -torch.inf) for x in (call.bias, call.mask) if x is not None
    ]
    return sum((x.detach().expand(shape) for x in parts), torch.zeros(()))
