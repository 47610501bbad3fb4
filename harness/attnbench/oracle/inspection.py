"""Attention from inside: the reference's weights and entropies, and the errors of an output."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.cases.cost import tensor_elements
from attnbench.cases.inputs.operands import operand_head
from attnbench.cases.masks import row_runs
from attnbench.cases.masks.visible import within
from attnbench.oracle.answer.arithmetic import EXACT
from attnbench.oracle.answer.heads import attend_heads, keys_or_values, rounded
from attnbench.oracle.selection import Selection, select
from attnbench.stages.agreement import Inside

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.judge import Judgement, Truth

MOST_HEADS = 16
MOST_ELEMENTS = 2**24
FINEST = 128
"""Largest number of rows and columns of a picture; with more, a field covers several queries or keys."""


class InspectionError(ValueError):
    """A case cannot be inspected; the message is one sentence."""


def whole_selection(case: Case) -> Selection:
    """Return the selection of every row of every head.

    Raises:
        InspectionError: if the case is too large, or has projections.
    """
    if case.operator != "attention":
        raise InspectionError("inspect looks at attention itself: operator must be 'attention'")
    selection = select(case)
    whole = selection.rows is None and len(selection.groups) == case.batch * case.heads_kv
    if not whole or not selection.gradients_of_keys == case.needs_gradients:
        raise InspectionError(
            f"{case.label()} is too large to be looked into: it may have 2048 * 2048 pairs of queries and keys in all "
            "heads and sequences together; choose less, such as -a seqlen=256"
        )
    if max(tensor_elements(case).values()) > MOST_ELEMENTS:
        raise InspectionError(
            f"{case.label()} is too large to be looked into: a tensor has at most {MOST_ELEMENTS:,} numbers"
        )
    return selection


def look_inside(case: Case, batch_index: int) -> Inside:
    """Return the mask, weights and entropies of one batch element.

    Arrays: ``mask`` (rows, keys), the share of visible pairs; ``weights`` (heads, rows, keys), the mean weight in each
    field; ``entropy`` (heads, seqlen_q) in bits, of the keys' weights without a sink's; ``top_key`` (heads,
    seqlen_q), the key with the largest weight, -1 for a row that sees none.
    """
    whole_selection(case)
    visible = within(row_runs(case, batch_index), np.arange(case.seqlen_kv))
    weights, entropies, tops = [], [], []
    heads = list(range(min(case.heads_q, MOST_HEADS)))
    for head in heads:
        of_head = weights_of(case, batch_index, head).numpy()
        total = of_head.sum(-1, keepdims=True)
        shares = np.divide(of_head, total, out=np.zeros_like(of_head), where=total > 0)
        logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
        entropies.append(-(shares * logs).sum(-1))
        tops.append(np.where(total[:, 0] > 0, of_head.argmax(-1), -1))
        weights.append(pooled(of_head, np.mean))
    arrays = _packed(
        mask=pooled(visible.astype(np.float64), np.mean),
        weights=np.stack(weights).astype(np.float32),
        entropy=np.stack(entropies).astype(np.float32),
        top_key=np.stack(tops),
    )
    return Inside(heads=tuple(heads), visible=int(visible.sum()), frames={"inside": arrays})


def _packed(**arrays: NDArray[Any]) -> bytes:
    """Return the arrays as the contents of an ``.npz`` file."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub mistakes the arrays for options
    return file.getvalue()


def weights_of(case: Case, batch_index: int, head: int) -> Tensor:
    """Return the exact attention weights of one query head, shape (seqlen_q, seqlen_kv).

    They are the output of attention with the identity matrix as values.
    """
    import torch

    key_head = head // (case.heads_q // case.heads_kv)
    q = rounded(case, operand_head(case, "q", batch_index, head))[None]
    k = keys_or_values(case, operand_head(case, "k", batch_index, key_head))[None]
    identity = torch.eye(case.seqlen_kv, dtype=torch.float64)[None]
    everything = Selection(((batch_index, key_head),), None, gradients_of_keys=False)
    return attend_heads(case, EXACT, ((batch_index, head),), everything, q, k, identity, None).out[0]


def errors_of(case: Case, batch_index: int, truth: Truth, judgement: Judgement) -> tuple[bytes, dict[str, float]]:
    """Return the largest absolute error in each field of the judged tensors, and the RMS of each tensor's reference.

    Arrays of the ``.npz``: ``out``, ``dq`` (query heads, rows, columns), ``dk``, ``dv`` (KV heads, rows, columns).
    """
    selection = whole_selection(case)
    arrays: dict[str, NDArray[np.float32]] = {}
    scales: dict[str, float] = {}
    for name, got in judgement.seen.items():
        if name in ("lse", "dbias"):
            continue
        answer = truth.answers[name]
        places = selection.query_heads(case) if name in ("out", "dq") else list(selection.groups)
        chosen = [i for i, (b, _) in enumerate(places) if b == batch_index][:MOST_HEADS]
        distance = (got[chosen] - answer[chosen]).abs().nan_to_num(float("inf"), posinf=float("inf")).numpy()
        arrays[name] = np.stack([pooled(plane, np.max) for plane in distance]).astype(np.float32)
        scales[name] = float(answer[chosen].square().mean().sqrt())
    return _packed(**arrays), scales


def pooled(plane: NDArray[np.float64], gather: Any) -> NDArray[np.float64]:
    """Reduce a plane to at most ``FINEST`` by ``FINEST`` fields with the function ``gather``."""
    for axis in (0, 1):
        parts = np.array_split(plane, min(FINEST, plane.shape[axis]), axis=axis)
        plane = np.stack([gather(part, axis=axis) for part in parts], axis=axis)
    return plane
