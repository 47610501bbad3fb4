"""The kernels of ``numba/flash``, compiled by Numba. Imported by the call that needs them, never by a listing.

All of them share the tiles and the arithmetic of the first half of this file. They stand in one file because Numba
caches what it compiled by the file of the outermost function: a change anywhere in here compiles everything anew.

Arrays of the caller may have any strides; all are of one dtype, float32 or float64. Tiles are contiguous, and padded
with zeros to whole blocks.
"""

# ruff: noqa: ANN001  (types are inferred by Numba, for each dtype its own)

import numpy as np
from numba import njit, prange, types

BLOCK_Q = 64
BLOCK_KV = 64

# Only contraction of a * b + c: anything more would let the compiler assume that there is no infinity.
compiled = njit(fastmath={"contract"}, error_model="numpy", nogil=True)


# --- Tiles -----------------------------------------------------------------------------------------------------


@compiled
def load(tile, source, start):
    """Rows of ``source`` from ``start`` on; rows beyond its end are zero. Returns how many are real."""
    count = min(tile.shape[0], source.shape[0] - start)
    for i in range(count):
        for d in range(source.shape[1]):
            tile[i, d] = source[start + i, d]
    tile[count:] = 0
    return count


@compiled
def store(target, start, tile, count):
    """The first ``count`` rows of ``tile`` to ``target`` from row ``start`` on."""
    for i in range(count):
        for d in range(target.shape[1]):
            target[start + i, d] = tile[i, d]


@compiled
def multiply_add(c, a, b):
    """C += A B for tiles: (rows, columns), (rows, inner), (inner, columns). Four terms at a time save traffic to C."""
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


# --- Masks and scores -------------------------------------------------------------------------------------------


@compiled
def visible_keys(low, high, start, stop):
    """First key that any of the rows ``start`` to ``stop`` sees, and the first beyond; equal where they see none."""
    first, beyond = high.max() if high.size else 0, 0
    for i in range(start, stop):
        if low[i] < high[i]:
            first, beyond = min(first, low[i]), max(beyond, high[i])
    return min(first, beyond), beyond


@compiled
def visible_columns(low, high, row, key_start, columns):
    """Which columns of a tile of keys a row sees: the first, and the first beyond."""
    return max(low[row] - key_start, 0), min(high[row] - key_start, columns)


@compiled
def scores(s, q, kt, row_start, key_start, low, high, bias, softcap):
    """S = Q K^T for scaled Q, capped, biased, and -inf where the row does not see the key.

    Args:
        s: tile to fill, (rows, BLOCK_KV).
        q: scaled queries, (rows, head_dim).
        kt: keys, transposed, (head_dim, BLOCK_KV).
        row_start: index of the first query.
        key_start: index of the first key.
        low: (seqlen_q,), first key that a row sees.
        high: (seqlen_q,), first key beyond.
        bias: (seqlen_q + seqlen_kv - 1,), by key index - query index + seqlen_q - 1; or empty.
        softcap: 0 caps nothing.
    """
    s[:] = 0
    multiply_add(s, q, kt)
    for i in range(s.shape[0]):
        row = row_start + i
        begin, end = visible_columns(low, high, row, key_start, s.shape[1])
        for j in range(begin, end):
            if softcap > 0:
                s[i, j] = softcap * np.tanh(s[i, j] / softcap)
            if bias.size > 0:
                s[i, j] += bias[key_start + j - row + low.size - 1]
        s[i, : max(begin, 0)] = -np.inf
        s[i, max(end, 0) :] = -np.inf


# --- Forward ----------------------------------------------------------------------------------------------------


@compiled
def attend_rows(q, k, v, out, lse, start, low, high, bias, sink, scale, softcap):
    """One block of rows of one head: keys are streamed past, and the softmax is rescaled whenever its maximum grows."""
    kind = lse.dtype
    q_tile = np.empty((BLOCK_Q, q.shape[1]), kind)
    kt_tile = np.empty((k.shape[1], BLOCK_KV), kind)
    v_tile = np.empty((BLOCK_KV, v.shape[1]), kind)
    rows = load(q_tile, q, start)
    q_tile *= scale
    s = np.empty((rows, BLOCK_KV), kind)
    total = np.zeros((rows, v.shape[1]), kind)
    # A sink is a key that was met before all others and has no value; -inf is no sink.
    maximum = np.full(rows, sink, kind)
    weight = np.full(rows, 1 if sink > -np.inf else 0, kind)

    first, beyond = visible_keys(low, high, start, start + rows)
    for key_start in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
        load(kt_tile.T, k, key_start)
        load(v_tile, v, key_start)
        scores(s, q_tile[:rows], kt_tile, start, key_start, low, high, bias, softcap)
        for i in range(rows):
            highest = max(maximum[i], s[i].max())
            if highest == -np.inf:
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


def forward(q, k, v, out, lse, low, high, bias, sinks, scale, softcap):
    """Attention of all heads: fills ``out`` and ``lse``.

    FlashAttention-2 (Dao 2023, algorithm 1), one task for each block of rows of each head.

    Args:
        q: (batch, heads_q, seqlen_q, head_dim).
        k: (batch, heads_kv, seqlen_kv, head_dim).
        v: (batch, heads_kv, seqlen_kv, head_dim_v).
        out: to fill, (batch, heads_q, seqlen_q, head_dim_v).
        lse: to fill, (batch, heads_q, seqlen_q); its dtype is the one computed in.
        low: (batch, seqlen_q), first key that a row sees.
        high: (batch, seqlen_q), first key beyond.
        bias: (heads_q, seqlen_q + seqlen_kv - 1) or (heads_q, 0), see :func:`scores`.
        sinks: (heads_q,), -inf where there is none.
        scale: factor of the scores.
        softcap: cap of the scores, 0 for none.
    """
    batch, heads_q, seqlen_q, _ = q.shape
    group = heads_q // k.shape[1]
    blocks = (seqlen_q + BLOCK_Q - 1) // BLOCK_Q
    for task in prange(batch * heads_q * blocks):
        b, h = task // (heads_q * blocks), task // blocks % heads_q
        start = task % blocks * BLOCK_Q
        attend_rows(
            q[b, h], k[b, h // group], v[b, h // group], out[b, h], lse[b, h],
            start, low[b], high[b], bias[h], sinks[h], scale, softcap,
        )  # fmt: skip


# --- Backward ---------------------------------------------------------------------------------------------------


@compiled
def weights_and_gradients(p, ds, q, kt, dout, vt, lse, delta, row_start, key_start, low, high, bias, softcap):
    """Recompute the weights P = exp(S - LSE), and dS = P * (dO V^T - delta), through the cap where there is one."""
    scores(p, q, kt, row_start, key_start, low, high, bias, softcap)
    ds[:] = 0
    multiply_add(ds, dout, vt)
    for i in range(p.shape[0]):
        row = row_start + i
        begin, end = visible_columns(low, high, row, key_start, p.shape[1])
        for j in range(begin, end):
            capped = p[i, j]
            p[i, j] = np.exp(capped - lse[row])
            ds[i, j] = p[i, j] * (ds[i, j] - delta[row])
            if softcap > 0:
                ds[i, j] *= 1 - (capped / softcap) * (capped / softcap)
        for j in range(min(max(begin, 0), p.shape[1])):
            p[i, j], ds[i, j] = 0, 0
        for j in range(max(end, 0), p.shape[1]):
            p[i, j], ds[i, j] = 0, 0


@compiled
def gradients_of_queries(dout, q, k, v, lse, delta, dq, start, low, high, bias, scale, softcap):
    """dQ of one block of rows of one head: dQ = scale * dS K."""
    kind = lse.dtype
    q_tile = np.empty((BLOCK_Q, q.shape[1]), kind)
    dout_tile = np.empty((BLOCK_Q, v.shape[1]), kind)
    k_tile = np.empty((BLOCK_KV, k.shape[1]), kind)
    kt_tile = np.empty((k.shape[1], BLOCK_KV), kind)
    vt_tile = np.empty((v.shape[1], BLOCK_KV), kind)
    rows = load(q_tile, q, start)
    q_tile *= scale
    load(dout_tile, dout, start)
    p = np.empty((rows, BLOCK_KV), kind)
    ds = np.empty((rows, BLOCK_KV), kind)
    total = np.zeros((rows, q.shape[1]), kind)
    first, beyond = visible_keys(low, high, start, start + rows)
    for key_start in range(first - first % BLOCK_KV, beyond, BLOCK_KV):
        load(k_tile, k, key_start)
        load(kt_tile.T, k, key_start)
        load(vt_tile.T, v, key_start)
        weights_and_gradients(
            p, ds, q_tile[:rows], kt_tile, dout_tile[:rows], vt_tile,
            lse, delta, start, key_start, low, high, bias, softcap,
        )  # fmt: skip
        multiply_add(total, ds, k_tile)
    total *= scale
    store(dq, start, total, rows)


@compiled
def gradients_of_keys(dout, q, k, v, lse, delta, dk, dv, start, low, high, bias, scale, softcap):
    """dK and dV of one block of keys: dK = scale * dS^T Q, dV = P^T dO, summed over the query heads of the group."""
    kind = lse.dtype
    q_tile = np.empty((BLOCK_Q, q.shape[2]), kind)
    dout_tile = np.empty((BLOCK_Q, v.shape[1]), kind)
    kt_tile = np.empty((k.shape[1], BLOCK_KV), kind)
    vt_tile = np.empty((v.shape[1], BLOCK_KV), kind)
    keys = load(kt_tile.T, k, start)
    load(vt_tile.T, v, start)
    dk_total = np.zeros((BLOCK_KV, k.shape[1]), kind)
    dv_total = np.zeros((BLOCK_KV, v.shape[1]), kind)
    for h in range(q.shape[0]):
        for row_start in range(0, q.shape[1], BLOCK_Q):
            rows = min(BLOCK_Q, q.shape[1] - row_start)
            first, beyond = visible_keys(low, high, row_start, row_start + rows)
            if first >= start + keys or beyond <= start:
                continue
            load(q_tile, q[h], row_start)
            q_tile *= scale
            load(dout_tile, dout[h], row_start)
            p = np.empty((rows, BLOCK_KV), kind)
            ds = np.empty((rows, BLOCK_KV), kind)
            weights_and_gradients(
                p, ds, q_tile[:rows], kt_tile, dout_tile[:rows], vt_tile,
                lse[h], delta[h], row_start, start, low, high, bias[h], softcap,
            )  # fmt: skip
            multiply_add(dv_total, p.T, dout_tile[:rows])
            multiply_add(dk_total, ds.T, q_tile[:rows])
    store(dk, start, dk_total, keys)
    store(dv, start, dv_total, keys)


@compiled
def row_products(delta, a, b):
    """Sum of A * B along each row: what the softmax's normalisation takes off the gradient."""
    for i in range(delta.size):
        delta[i] = 0
        for d in range(a.shape[1]):
            delta[i] += a[i, d] * b[i, d]


def backward(dout, q, k, v, out, lse, delta, dq, dk, dv, low, high, bias, scale, softcap):
    """Gradients of all heads: fills ``dq``, ``dk`` and ``dv``; nothing of size seqlen_q * seqlen_kv is kept.

    FlashAttention-2 (Dao 2023, algorithm 2), but in two passes, one over blocks of rows and one over blocks of keys: S
    is computed twice, and no two tasks add to the same memory, so that the result is always the same.

    Arguments are those of :func:`forward`, gradients shaped like what they are gradients of; ``delta`` is (batch,
    heads_q, seqlen_q), to fill.
    """
    batch, heads_q, seqlen_q, _ = q.shape
    heads_kv, seqlen_kv = k.shape[1], k.shape[2]
    group = heads_q // heads_kv
    blocks = (seqlen_q + BLOCK_Q - 1) // BLOCK_Q
    for head in prange(batch * heads_q):
        b, h = head // heads_q, head % heads_q
        row_products(delta[b, h], dout[b, h], out[b, h])
    for task in prange(batch * heads_q * blocks):
        b, h = task // (heads_q * blocks), task // blocks % heads_q
        gradients_of_queries(
            dout[b, h], q[b, h], k[b, h // group], v[b, h // group], lse[b, h], delta[b, h], dq[b, h],
            task % blocks * BLOCK_Q, low[b], high[b], bias[h], scale, softcap,
        )  # fmt: skip
    blocks_kv = (seqlen_kv + BLOCK_KV - 1) // BLOCK_KV
    for task in prange(batch * heads_kv * blocks_kv):
        b, h = task // (heads_kv * blocks_kv), task // blocks_kv % heads_kv
        heads = slice(h * group, (h + 1) * group)
        gradients_of_keys(
            dout[b, heads], q[b, heads], k[b, h], v[b, h], lse[b, heads], delta[b, heads], dk[b, h], dv[b, h],
            task % blocks_kv * BLOCK_KV, low[b], high[b], bias[heads], scale, softcap,
        )  # fmt: skip


# --- Compilation ------------------------------------------------------------------------------------------------


def compile_for(kernel, number):
    """Compile :func:`forward` or :func:`backward` for a dtype, and for arrays of any strides.

    One specialisation then serves all layouts; left to itself, Numba compiles one for each combination.

    Args:
        kernel: the function.
        number: Numba type of all floats.
    """
    tensor, rows, bounds = types.Array(number, 4, "A"), types.Array(number, 3, "A"), types.Array(types.int64, 2, "C")
    bias, sinks = types.Array(number, 2, "C"), types.Array(number, 1, "C")
    if kernel is forward:
        arguments = [*[tensor] * 4, rows, bounds, bounds, bias, sinks, number, number]
    else:
        arguments = [*[tensor] * 5, rows, rows, *[tensor] * 3, bounds, bounds, bias, number, number]
    options = {"parallel": True, "cache": True, "nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    return njit(types.void(*arguments), **options)(kernel)
