"""Checks, on a few rows, that a model's output is the one that the description of its call defines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnbench.cases.case import make_case
from attnbench.cases.masks import row_runs
from attnbench.cases.masks.visible import within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.interception.call import AttentionCall
    from attnbench.interception.described import CallSpec

_ROWS = 8
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
"""Relative to the largest value: far above rounding errors, far below the effect of a wrong mask, scale or head."""


def disagreement(call: AttentionCall, spec: CallSpec, out: Tensor) -> str | None:
    """Return how the model's output differs from the described one, or ``None`` if it agrees.

    A few rows of the first and the last element of the batch are compared in float64. Rows that see no key are left
    out, as their output is undefined.
    """
    if call.dropout or call.q.dtype not in _TOLERANCE:
        return None
    rows = np.unique(np.linspace(0, spec.seqlen_q - 1, _ROWS).astype(np.int64))
    unseen = torch._C.DisableTorchFunction()  # noqa: SLF001 - an outer block takes this for the program's attention
    with unseen, torch.no_grad(), _one_thread():
        for element in sorted({0, spec.batch - 1}):
            expected = _expected(call, spec, element, rows)
            found = out[element][:, torch.from_numpy(rows).to(out.device)].to(torch.float64)
            largest = max(float(call.v[element].abs().max()), 1e-30)
            worst = float(torch.nan_to_num((found - expected).abs(), nan=0.0).max()) / largest
            if worst > _TOLERANCE[call.q.dtype]:
                return f"its output is not what its arguments say: it differs by {worst:.2g} of the largest value"
    return None


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one torch thread: for a few rows it is not worth waking threads, which may be busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _expected(call: AttentionCall, spec: CallSpec, element: int, rows: NDArray[np.int64]) -> Tensor:
    """Return the expected rows, (heads_q, rows, head_dim_v); NaN for a row that sees no key."""
    index = torch.from_numpy(rows).to(call.q.device)
    group = spec.heads_q // spec.heads_kv
    q = call.q[element][:, index].to(torch.float64)
    k, v = (x[element].to(torch.float64).repeat_interleave(group, 0) for x in (call.k, call.v))
    scores = spec.scale * q @ k.transpose(-1, -2)
    if spec.softcap is not None:
        scores = spec.softcap * torch.tanh(scores / spec.softcap)
    if spec.bias is not None:
        whole = spec.bias.expand(spec.batch, spec.heads_q, spec.seqlen_q, spec.seqlen_kv)
        scores = scores + whole[element][:, index]
    seen = torch.from_numpy(_seen(spec, element, rows)).to(scores.device)
    scores = scores.masked_fill(~seen, -torch.inf)
    if call.sinks is not None:
        sinks = call.sinks.reshape(-1, 1, 1).expand(-1, len(rows), 1).to(scores)
        probabilities = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
        return torch.where(seen.any(-1)[:, None], probabilities @ v, torch.nan)
    return scores.softmax(-1) @ v


def _seen(spec: CallSpec, element: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the keys that these rows see, a boolean (rows, seqlen_kv)."""
    named = spec.mask.without_tensor()
    case = make_case(batch=spec.batch, seqlen_q=spec.seqlen_q, seqlen_kv=spec.seqlen_kv, **named.fields())
    seen = within(row_runs(case, element)[rows], np.arange(spec.seqlen_kv))
    if spec.mask.tensor is None:
        return seen
    whole = np.broadcast_to(spec.mask.tensor, (spec.batch, 1, spec.seqlen_q, spec.seqlen_kv))
    both: NDArray[np.bool_] = seen & whole[element, 0][rows]
    return both
