"""Attention in blocks with an online softmax, compiled for the CPU by Numba.

The algorithm of a fused GPU kernel, written in Python: a block of queries stays in the cache while blocks of keys and
values are streamed past it, and the running softmax is corrected whenever a larger score turns up. The matrix of scores
is never materialised. Read it in this order:

- ``forward.py``: the algorithm, in plain Numba; then ``backward.py``, and ``decode.py`` for a few queries over many
keys, ``quantised.py`` the same over int8.
- ``softmax.py``: the steps on a tile of scores.
- ``product.py``: the generated micro-kernels, with a drawing of the register tile; ``streaming.py``: those of decoding.
- ``arguments.py``: a kernel's arguments; ``tiles.py``: tensors to tiles and back; ``entry.py``: the compiled kernels.
- ``language/``, what all of these are written in: ``simd.py``, vectors as values in Numba; ``compiling.py``;
``threads.py`` and ``scheduling.py``, a kernel on several threads, and tasks among them; ``llvm.py``; ``target.py``,
what the processor offers.

Extra memory of a call: the LSE and some tiles per thread, independent of the length; a backward pass also has sums of
dK and dV in float32 for as many heads as there are threads. ``docs/numba-flash.md`` reports the gain of each step, and
the limits.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench import alibi_slopes, attention, is_bidirectional, relative_buckets, request_groups, row_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "numba/flash",
    dtypes=("float64", "float32", "float16", "bfloat16"),
    masks=(
        "none",
        "causal",
        "sliding_window",
        "prefix_lm",
        "document",
        "key_padding",
        "left_padding",
        "tree",
        "block_sparse",
        "ragged",
    ),
    mask_intersections=True,
    modes=("forward", "backward", "forward_backward"),
    score_mods=("none", "softcap", "alibi", "relative_bias", "sink"),
    alignments=("top_left", "bottom_right"),
    kv_dtypes=("none", "int8"),
    strides=("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"),
    score_mod_combinations=True,
    kv_caches=("dense", "paged", "latent"),
    empty=True,
    gqa=True,
    unequal_head_dims=True,
    returns_lse=True,
    memory="O(n)",
    requires=("numba>=0.61",),
)
def flash(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
    """Blocks of keys streamed past blocks of queries with an online softmax, in Numba."""
    import torch

    out = q.new_empty(*plan.out)
    lse = torch.empty(*plan.rows, dtype=plan.number)
    paged = case.kv_cache == "paged"
    if paged:
        k, v = k.transpose(1, 2), v.transpose(1, 2)  # views: heads before tokens, as everywhere else
    if plan.parts:
        for group, part in plan.parts:
            rows, keys = group.queries_of, whole if paged else group.keys_of
            attend(part, rows(q), keys(k), keys(v), [keys(scale) for scale in plan.scales], rows(out), rows(lse))
    else:
        attend(plan, q, k, v, plan.scales, out, lse)
    return out, lse


def whole(pages: Tensor) -> Tensor:
    """The pages of all requests: a table says which are whose."""
    return pages


def attend(plan: Plan, q: Tensor, k: Tensor, v: Tensor, scales: Sequence[Tensor], out: Tensor, lse: Tensor) -> None:
    """Fill ``out`` and ``lse``. K and V of int8 have scales, (batch, heads, tokens) each; others have none."""
    if plan.decodes_int8:
        plan.forward.start(lse, q, k, v, *(scale[..., None] for scale in scales), out)
    elif scales:
        plan.forward.start(lse, q, *dequantised(k, v, scales, q.dtype), out)
    else:
        plan.forward.start(lse, q, k, v, out)


class Plan:
    """Compiled kernels, and all that does not depend on Q, K and V."""

    def __init__(self, case: Case, operands: Operands, sequences: slice = slice(None)) -> None:
        """Make the plan of a case; ``sequences`` are the rows of the table of pages that it is about."""
        import numba
        import torch

        entry = import_module(f"{__name__}.entry")
        dtypes = entry.dtypes_of(case.dtype)
        self.rows = (case.batch, case.heads_q, case.seqlen_q)
        self.out = (*self.rows, case.head_dim_v)
        self.number = torch.float64 if case.dtype == "float64" else torch.float32
        self.scales = () if case.kv_dtype is None else (operands.k_scale, operands.v_scale)
        # Each group of a pack by a call of its own: requests share no tile, decodes go to the kernel for decoding,
        # and nothing is copied or masked that no request sees.
        self.parts = [(group, Plan(group.case, operands, group.places)) for group in request_groups(case)]
        if self.parts:
            return
        runs = [row_runs(case, b) for b in range(case.batch)]
        few = case.seqlen_q <= entry.QUERIES
        self.decodes_int8 = few and bool(self.scales)
        longest = entry.SPLIT * (2 if dtypes.words is np.int32 and not self.decodes_int8 else 1)
        table = None if operands.relative_bias is None else operands.relative_bias.double().numpy()
        bias = diagonal_bias(case, table, spare=entry.TILE)
        sinks = np.full(case.heads_q, -np.inf) if operands.sinks is None else operands.sinks.double().numpy()
        cap = case.softcap or 0
        scale = [case.scale / cap if cap else case.scale, 1, case.scale, cap]
        numbers = (np.ascontiguousarray(rule, dtypes.number) for rule in (bias, sinks, scale))
        stretches = stretches_of(runs, case.seqlen_kv, longest)
        pages = np.empty((case.batch, 0)) if operands.block_table is None else operands.block_table.numpy()[sequences]
        self.rules = (
            *bounds_of(runs, dtypes.index), *numbers, stretches, np.ascontiguousarray(pages, np.int64)
        )  # fmt: skip
        threads = numba.get_num_threads() if os.name == "posix" else 1
        name = "decode_int8" if self.decodes_int8 else "decode" if few else "forward"
        self.forward = entry.Call(name, case, self.rules, threads)
        self.backward = entry.Call("backward", case, self.rules, threads) if case.needs_gradients else None


flash.prepare(Plan)


@flash.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why the kernels refuse the case, or ``None``: the cap's slope is computed from scores without a bias."""
    del device
    if not case.batch:
        return "it makes no plan for a batch of 0"
    if case.needs_gradients and case.softcap is not None and {"alibi", "relative_bias"} & {*case.score_mods}:
        return "its backward pass has no cap below a bias"
    return None


def bounds_of(runs: list[NDArray[np.int64]], index: type[Any]) -> Iterator[NDArray[Any]]:
    """Yield the starts and the ends of runs, (batch, runs, seqlen_q), given runs (seqlen_q, runs, 2) per element."""
    most = max(one.shape[1] for one in runs)
    filled = [np.pad(one, ((0, 0), (0, most - one.shape[1]), (0, 0))) for one in runs]
    return (np.ascontiguousarray(np.stack(filled)[..., i].swapaxes(1, 2), index) for i in range(2))


def stretches_of(runs: list[NDArray[np.int64]], seqlen_kv: int, longest: int) -> NDArray[np.int64]:
    """Return stretches, at most ``longest``, of keys that any row sees: (batch, stretches, 2), padded with (0, 0)."""
    found = []
    for one in runs:
        changes = np.zeros(seqlen_kv + 1, np.int64)
        np.add.at(changes, one[..., 0], 1)
        np.add.at(changes, one[..., 1], -1)
        edges = np.flatnonzero(np.diff(np.cumsum(changes) > 0, prepend=False)).reshape(-1, 2).tolist()
        found.append([(at, min(at + longest, end)) for start, end in edges for at in range(start, end, longest)])
    most = max(1, *map(len, found))
    return np.array([[*one, *[(0, 0)] * (most - len(one))] for one in found], np.int64)


def dequantised(k: Tensor, v: Tensor, scales: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Dequantise K and V once, to the dtype of the queries, for many queries that read each row many times."""
    return [(x.to(scale.dtype) * scale[..., None]).to(dtype) for x, scale in zip((k, v), scales, strict=True)]


def diagonal_bias(case: Case, table: NDArray[np.float64] | None, *, spare: int) -> NDArray[np.float64]:
    """Return the bias by distance of key and query, on which alone it depends: one row per head.

    Returns:
        (heads_q, seqlen_q + seqlen_kv - 1 + spare), by query index - key index + seqlen_kv - 1; (heads_q, 0) if
        nothing is added.
    """
    distance = np.arange(case.seqlen_kv - 1, -case.seqlen_q - spare, -1) - case.diagonal_offset
    added = []
    if "alibi" in case.score_mods:
        added.append(-alibi_slopes(case.heads_q)[:, None] * np.abs(distance))
    if table is not None:
        added.append(table[:, relative_buckets(distance, bidirectional=is_bidirectional(case))])
    return np.ascontiguousarray(sum(added)) if added else np.empty((case.heads_q, 0))


@flash.backward
def flash_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, case: Case, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients, recomputing the weights from the LSE block by block."""
    dq, dk, dv = (tensor.new_empty(tensor.shape) for tensor in (q, k, v))
    for group, part in plan.parts:
        rows, keys = group.queries_of, group.keys_of
        assert part.backward is not None
        tensors = (rows(dout), rows(q), keys(k), keys(v), rows(out), rows(dq), keys(dk), keys(dv))
        part.backward.start(rows(lse), *tensors)
    if not plan.parts:
        assert plan.backward is not None
        plan.backward.start(lse, dout, q, k, v, out, dq, dk, dv)
    return dq, dk, dv


@flash.backend
def compiled_for(run: Callable[[], None]) -> str:
    """Return the instruction set that the code was compiled for, and the threads."""
    import numba

    run()
    entry = import_module(f"{__name__}.entry")
    threads = f"{numba.get_num_threads()} threads of {entry.threads().owner}"
    return f"{entry.TARGET.name}; Numba {numba.__version__}, {threads}"
