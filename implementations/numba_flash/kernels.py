"""The kernels of ``numba/flash``, compiled by Numba. Imported by the call that needs them, never by a listing.

They stand in one file because Numba caches what it compiled by the file of the outermost function: a change anywhere
in here compiles everything anew.

Arrays of the caller may have any strides; all floats are of one dtype, float32 or float64. Tiles are contiguous, and
padded with zeros to whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit, prange, types
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Array = NDArray[Any]  # Numba infers the types, for each dtype anew; annotations are for readers

BLOCK_Q = 64
BLOCK_KV = 64
# Only contraction of a * b + c: anything more would let the compiler assume that there is no infinity.
OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}


def compiled(function: Function) -> Function:
    """A function that other compiled functions call."""
    dispatcher: Function = njit(**OPTIONS)(function)
    return dispatcher


class Rules(NamedTuple):
    """What makes weights of the scores of one head."""

    low: Array  # (seqlen_q,), the first key that a row sees
    high: Array  # (seqlen_q,), the first key beyond
    bias: Array  # (seqlen_q + seqlen_kv - 1,), by key index - query index + seqlen_q - 1; or empty
    sink: float  # -inf is none
    scale: float
    softcap: float  # 0 is none


# --- Tiles ------------------------------------------------------------------------------------------------------------


@compiled
def load(tile: Array, source: Array, start: int) -> int:
    """Rows of ``source`` from ``start`` on; rows beyond its end are zero. Returns how many are real."""
    count: int = min(tile.shape[0], source.shape[0] - start)
    for i in range(count):
        for d in range(source.shape[1]):
            tile[i, d] = source[start + i, d]
    tile[count:] = 0
    return count


@compiled
def store(target: Array, start: int, tile: Array, count: int) -> None:
    """The first ``count`` rows of ``tile`` to ``target`` from row ``start`` on."""
    for i in range(count):
        for d in range(target.shape[1]):
            target[start + i, d] = tile[i, d]


@compiled
def multiply_add(c: Array, a: Array, b: Array) -> None:
    """C += A B for tiles (rows, columns), (rows, inner), (inner, columns). Four terms at a time save traffic to C."""
    inner = a.shape[1]
    fours = inner - inner % 4
    for i in range(a.shape[0]):
        for p in range(0, fours, 4):
            a0, a1, a2, a3 = a[i, p], a[i, p + 1], a[i, p + 2], a[i, p + 3]
            for j in range(b.shape[1]):
                c[i, j] += a0 * b[p, j] + a1 * b[p + 1, j] + a2 * b[p + 2, j] + a3 * b[p + 3, j]
        for p in range(fours, inner):
            for j in range(b.shape[1]):
                c[i, j] += a[i, p] * b[p, j]


# --- Masks and scores -------------------------------------------------------------------------------------------------


@compiled
def visible_keys(rules: Rules, start: int, stop: int) -> tuple[int, int]:
    """First key that any of the rows ``start`` to ``stop`` sees, and the first beyond; equal where they see none."""
    first, beyond = rules.high[start], 0
    for i in range(start, stop):
        if rules.low[i] < rules.high[i]:
            first, beyond = min(first, rules.low[i]), max(beyond, rules.high[i])
    return min(first, beyond), beyond


@compiled
def visible_columns(rules: Rules, row: int, key_start: int) -> tuple[int, int]:
    """Which columns of a tile of keys a row sees: the first, and the first beyond; equal where it sees none."""
    begin = min(max(rules.low[row] - key_start, 0), BLOCK_KV)
    return begin, max(min(rules.high[row] - key_start, BLOCK_KV), begin)


@compiled
def scores(s: Array, q: Array, kt: Array, row_start: int, key_start: int, rules: Rules) -> None:
    """S = Q K^T, capped, biased, and -inf where the row does not see the key.

    Args:
        s: tile to fill, (rows, BLOCK_KV).
        q: queries, already scaled, (rows, head_dim).
        kt: keys, transposed, (head_dim, BLOCK_KV).
        row_start: index of the first query.
        key_start: index of the first key.
        rules: of this head.
    """
    s[:] = 0
    multiply_add(s, q, kt)
    for i in range(s.shape[0]):
        row = row_start + i
        begin, end = visible_columns(rules, row, key_start)
        for j in range(begin, end):
            if rules.softcap > 0:
                s[i, j] = rules.softcap * np.tanh(s[i, j] / rules.softcap)
            if rules.bias.size > 0:
                s[i, j] += rules.bias[key_start + j - row + rules.low.size - 1]
        s[i, :begin] = -np.inf
        s[i, end:] = -np.inf


# --- Forward ----------------------------------------------------------------------------------------------------------


@compiled
def attend_rows(q: Array, k: Array, v: Array, out: Array, lse: Array, start: int, rules: Rules) -> None:
    """One block of rows of one head: keys are streamed past, and the softmax is rescaled whenever its maximum grows."""
    number = lse.dtype
    q_tile = np.empty((BLOCK_Q, q.shape[1]), number)
    kt_tile = np.empty((k.shape[1], BLOCK_KV), number)
    v_tile = np.empty((BLOCK_KV, v.shape[1]), number)
    rows = load(q_tile, q, start)
    q_tile *= rules.scale
    s = np.empty((rows, BLOCK_KV), number)
    total = np.zeros((rows, v.shape[1]), number)
    # A sink is a key that was met before all others and has no value.
    maximum = np.full(rows, rules.sink, number)
    weight = np.full(rows, 1 if rules.sink > -np.inf else 0, number)

    first, beyond = visible_keys(rules, start, start + rows)
    for key_start in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
        load(kt_tile.T, k, key_start)
        load(v_tile, v, key_start)
        scores(s, q_tile[:rows], kt_tile, start, key_start, rules)
        for i in range(rows):
            highest = max(maximum[i], s[i].max())
            if highest == -np.inf:  # nothing seen so far, and -inf - -inf would be NaN
                s[i] = 0
                continue
            rescale = np.exp(maximum[i] - highest)
            for j in range(BLOCK_KV):
                s[i, j] = np.exp(s[i, j] - highest)
            weight[i] = weight[i] * rescale + s[i].sum()
            total[i] *= rescale
            maximum[i] = highest
        multiply_add(total, s, v_tile)

    for i in range(rows):
        if weight[i] > 0:
            total[i] /= weight[i]
        lse[start + i] = maximum[i] + np.log(weight[i])
    store(out, start, total, rows)


def forward(
    q: Array, k: Array, v: Array, out: Array, lse: Array,
    low: Array, high: Array, bias: Array, sinks: Array, scale: float, softcap: float,
) -> None:  # fmt: skip
    """Attention of all heads: fills ``out`` and ``lse``.

    FlashAttention-2 (Dao 2023, algorithm 1), one task for each block of rows of each head.

    Args:
        q: (batch, heads_q, seqlen_q, head_dim).
        k: (batch, heads_kv, seqlen_kv, head_dim).
        v: (batch, heads_kv, seqlen_kv, head_dim_v).
        out: to fill, (batch, heads_q, seqlen_q, head_dim_v).
        lse: to fill, (batch, heads_q, seqlen_q).
        low: (batch, seqlen_q); this and the following are told in :class:`Rules`.
        high: (batch, seqlen_q).
        bias: (heads_q, seqlen_q + seqlen_kv - 1), or (heads_q, 0).
        sinks: (heads_q,).
        scale: of the scores.
        softcap: of the scores.
    """
    batch, heads_q, seqlen_q, _ = q.shape
    group = heads_q // k.shape[1]
    blocks = (seqlen_q + BLOCK_Q - 1) // BLOCK_Q
    for task in prange(batch * heads_q * blocks):
        b, h, start = task // (heads_q * blocks), task // blocks % heads_q, task % blocks * BLOCK_Q
        rules = Rules(low[b], high[b], bias[h], sinks[h], scale, softcap)
        attend_rows(q[b, h], k[b, h // group], v[b, h // group], out[b, h], lse[b, h], start, rules)


# --- Backward ---------------------------------------------------------------------------------------------------------


@compiled
def weights_and_gradients(
    p: Array, ds: Array, q: Array, kt: Array, dout: Array, vt: Array, lse: Array, delta: Array,
    row_start: int, key_start: int, rules: Rules,
) -> None:  # fmt: skip
    """Recompute the weights P = exp(S - LSE), and dS = P * (dO V^T - delta), through the cap where there is one."""
    scores(p, q, kt, row_start, key_start, rules)
    ds[:] = 0
    multiply_add(ds, dout, vt)
    for i in range(p.shape[0]):
        row = row_start + i
        begin, end = visible_columns(rules, row, key_start)
        for j in range(begin, end):
            score = p[i, j]
            p[i, j] = np.exp(score - lse[row])
            ds[i, j] = p[i, j] * (ds[i, j] - delta[row])
            if rules.softcap > 0:  # a capped score has no bias: a case has one score modification
                ds[i, j] *= 1 - (score / rules.softcap) * (score / rules.softcap)
        p[i, :begin] = 0
        p[i, end:] = 0
        ds[i, :begin] = 0
        ds[i, end:] = 0


@compiled
def gradients_of_rows(
    dout: Array, q: Array, k: Array, v: Array, lse: Array, delta: Array, dq: Array, start: int, rules: Rules
) -> None:
    """One block of rows of one head: dQ = scale * dS K."""
    number = lse.dtype
    q_tile = np.empty((BLOCK_Q, q.shape[1]), number)
    dout_tile = np.empty((BLOCK_Q, v.shape[1]), number)
    k_tile = np.empty((BLOCK_KV, k.shape[1]), number)
    kt_tile = np.empty((k.shape[1], BLOCK_KV), number)
    vt_tile = np.empty((v.shape[1], BLOCK_KV), number)
    rows = load(q_tile, q, start)
    q_tile *= rules.scale
    load(dout_tile, dout, start)
    p = np.empty((rows, BLOCK_KV), number)
    ds = np.empty((rows, BLOCK_KV), number)
    total = np.zeros((rows, q.shape[1]), number)
    first, beyond = visible_keys(rules, start, start + rows)
    for key_start in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
        load(k_tile, k, key_start)
        load(kt_tile.T, k, key_start)
        load(vt_tile.T, v, key_start)
        weights_and_gradients(
            p, ds, q_tile[:rows], kt_tile, dout_tile[:rows], vt_tile, lse, delta, start, key_start, rules
        )
        multiply_add(total, ds, k_tile)
    total *= rules.scale
    store(dq, start, total, rows)


@compiled
def gradients_of_keys(
    dout: Array, q: Array, k: Array, v: Array, lse: Array, delta: Array, dk_total: Array, dv_total: Array, start: int,
    rules: Rules,
) -> None:  # fmt: skip
    """What one query head gives to one block of keys: dK += scale * dS^T Q, dV += P^T dO, both (BLOCK_KV, dim)."""
    number = lse.dtype
    q_tile = np.empty((BLOCK_Q, q.shape[1]), number)
    dout_tile = np.empty((BLOCK_Q, v.shape[1]), number)
    kt_tile = np.empty((k.shape[1], BLOCK_KV), number)
    vt_tile = np.empty((v.shape[1], BLOCK_KV), number)
    load(kt_tile.T, k, start)
    load(vt_tile.T, v, start)
    for row_start in range(0, q.shape[0], BLOCK_Q):
        rows = min(BLOCK_Q, q.shape[0] - row_start)
        first, beyond = visible_keys(rules, row_start, row_start + rows)
        if first >= start + BLOCK_KV or beyond <= start:
            continue
        load(q_tile, q, row_start)
        q_tile *= rules.scale
        load(dout_tile, dout, row_start)
        p = np.empty((rows, BLOCK_KV), number)
        ds = np.empty((rows, BLOCK_KV), number)
        weights_and_gradients(
            p, ds, q_tile[:rows], kt_tile, dout_tile[:rows], vt_tile, lse, delta, row_start, start, rules
        )
        multiply_add(dv_total, p.T, dout_tile[:rows])
        multiply_add(dk_total, ds.T, q_tile[:rows])


@compiled
def row_products(delta: Array, a: Array, b: Array) -> None:
    """Sum of A * B along each row: what the softmax's normalisation takes off the gradient."""
    for i in range(delta.size):
        delta[i] = 0
        for d in range(a.shape[1]):
            delta[i] += a[i, d] * b[i, d]


def backward(
    dout: Array, q: Array, k: Array, v: Array, out: Array, lse: Array, delta: Array, dq: Array, dk: Array, dv: Array,
    low: Array, high: Array, bias: Array, sinks: Array, scale: float, softcap: float,
) -> None:  # fmt: skip
    """Gradients of all heads: fills ``dq``, ``dk`` and ``dv``.

    FlashAttention-2 (Dao 2023, algorithm 2), but in two passes, one over blocks of rows and one over blocks of keys: S
    is computed twice, and no two tasks add to the same memory, so that the result is always the same.

    Arguments are those of :func:`forward`; gradients are shaped like what they are gradients of, and ``delta``, to
    fill, like the LSE.
    """
    batch, heads_q, seqlen_q, _ = q.shape
    heads_kv, seqlen_kv = k.shape[1], k.shape[2]
    group = heads_q // heads_kv
    for head in prange(batch * heads_q):
        b, h = head // heads_q, head % heads_q
        row_products(delta[b, h], dout[b, h], out[b, h])

    blocks = (seqlen_q + BLOCK_Q - 1) // BLOCK_Q
    for task in prange(batch * heads_q * blocks):
        b, h, start = task // (heads_q * blocks), task // blocks % heads_q, task % blocks * BLOCK_Q
        g = h // group
        rules = Rules(low[b], high[b], bias[h], sinks[h], scale, softcap)
        gradients_of_rows(dout[b, h], q[b, h], k[b, g], v[b, g], lse[b, h], delta[b, h], dq[b, h], start, rules)

    blocks_kv = (seqlen_kv + BLOCK_KV - 1) // BLOCK_KV
    for task in prange(batch * heads_kv * blocks_kv):
        b, g, start = task // (heads_kv * blocks_kv), task // blocks_kv % heads_kv, task % blocks_kv * BLOCK_KV
        count = min(BLOCK_KV, seqlen_kv - start)
        dk_total = np.zeros((BLOCK_KV, k.shape[3]), lse.dtype)
        dv_total = np.zeros((BLOCK_KV, v.shape[3]), lse.dtype)
        for h in range(g * group, (g + 1) * group):  # the heads of a group share their keys: their gradients add up
            rules = Rules(low[b], high[b], bias[h], sinks[h], scale, softcap)
            gradients_of_keys(
                dout[b, h], q[b, h], k[b, g], v[b, g], lse[b, h], delta[b, h], dk_total, dv_total, start, rules
            )
        store(dk[b, g], start, dk_total, count)
        store(dv[b, g], start, dv_total, count)


# --- Compilation ------------------------------------------------------------------------------------------------------


def compile_for(kernel: Callable[..., None], number: Any) -> Callable[..., None]:
    """Compile :func:`forward` or :func:`backward` for a dtype, and for arrays of any strides.

    One specialisation then serves all layouts; left to itself, Numba compiles one for each combination.

    Args:
        kernel: the function.
        number: Numba type of all floats.
    """
    tensor, rows = types.Array(number, 4, "A"), types.Array(number, 3, "A")
    bounds, bias, sinks = types.Array(types.int64, 2, "C"), types.Array(number, 2, "C"), types.Array(number, 1, "C")
    tensors = [*[tensor] * 4, rows] if kernel is forward else [*[tensor] * 5, rows, rows, *[tensor] * 3]
    signature = types.void(*tensors, bounds, bounds, bias, sinks, number, number)
    function: Callable[..., None] = njit(signature, parallel=True, cache=True, **OPTIONS)(kernel)
    return function
