"""The least cost of a case: floating-point operations and bytes moved.

Operations are those of the matrix products, two per multiply-add, over exactly the query-key pairs that the mask lets
through; the softmax, biases and caps are not counted. Bytes count each tensor once, K and V in their storage dtype.
Mask and bias tensors are left out, as a kernel may need only a part of them. Both numbers are properties of the
problem, not of an implementation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.choices import DTYPE_BYTES
from attnbench.cases.counting import visible_pairs

if TYPE_CHECKING:
    from attnbench.cases.case import Case


def flops(case: Case) -> int:
    """Return the floating-point operations of one call.

    Forward: the scores and the weighted sum, ``2 H P (D + Dv)``; backward: the scores again, dP, dQ, dK and dV,
    ``2 H P (3 D + 2 Dv)``; P is the number of visible pairs over the batch.
    """
    pairs = visible_pairs(case)
    forward = 2 * case.heads_q * pairs * (case.head_dim + case.head_dim_v)
    backward = 2 * case.heads_q * pairs * (3 * case.head_dim + 2 * case.head_dim_v)
    if case.operator == "multi_head_attention":
        projections = _projection_flops(case)
        forward += projections
        backward += projections  # gradients of the inputs only, not of the weights
    return {"forward": forward, "backward": backward, "forward_backward": forward + backward}[case.mode]


def _projection_flops(case: Case) -> int:
    width = case.embed_dim
    from_queries = case.seqlen_q * (case.heads_q * case.head_dim + case.heads_q * case.head_dim_v)
    from_keys = case.seqlen_kv * case.heads_kv * (case.head_dim + case.head_dim_v)
    return 2 * case.batch * width * (from_queries + from_keys)


def tensor_elements(case: Case) -> dict[str, int]:
    """Return the number of elements of each tensor of the case, by name."""
    b = case.batch
    if case.operator == "multi_head_attention":
        width = case.embed_dim
        return {
            "q": b * case.seqlen_q * width,
            "k": b * case.seqlen_kv * width,
            "v": b * case.seqlen_kv * width,
            "weights": width * (case.heads_q + case.heads_kv) * (case.head_dim + case.head_dim_v),
            "out": b * case.seqlen_q * width,
        }
    return {
        "q": b * case.heads_q * case.seqlen_q * case.head_dim,
        "k": b * case.heads_kv * case.seqlen_kv * case.head_dim,
        "v": 0 if case.kv_cache == "latent" else b * case.heads_kv * case.seqlen_kv * case.head_dim_v,
        "out": b * case.heads_q * case.seqlen_q * case.head_dim_v,
    }


def _bytes_over_quantised(case: Case, count: dict[str, int]) -> int:
    """Return the minimum bytes if K and V take one byte per element, and four per row for its scale."""
    scales = 2 * case.batch * case.heads_kv * case.seqlen_kv
    of_kv = count["k"] + count["v"] + 4 * scales
    return of_kv + count["q"] * DTYPE_BYTES[case.dtype] + count["out"] * DTYPE_BYTES[case.output_dtype]


def minimum_bytes(case: Case) -> int:
    """Return the bytes that one call must move: each input read once, each output written once.

    Forward reads Q, K, V and writes O; backward reads Q, K, V, O, dO and the LSE (4 bytes per row) and writes
    dQ, dK, dV; both together read Q, K, V, dO and write O, dQ, dK, dV.
    """
    count = tensor_elements(case)
    if case.kv_dtype is not None:
        return _bytes_over_quantised(case, count)
    inputs = count["q"] + count["k"] + count["v"]
    weights = count.get("weights", 0)
    size, size_out = DTYPE_BYTES[case.dtype], DTYPE_BYTES[case.output_dtype]
    lse = 4 * case.batch * case.heads_q * case.seqlen_q
    if case.mode == "forward":
        return (inputs + weights) * size + count["out"] * size_out
    if case.mode == "backward":
        return (2 * inputs + weights + 2 * count["out"]) * size + lse
    return (2 * inputs + weights + 2 * count["out"]) * size
