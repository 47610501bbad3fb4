"""The kernel of ``gluon/flash``: some warps fetch tiles while others compute, scheduled by hand.

Shah et al., "FlashAttention-3" (2024). One warp of a program, the producer, has the copy engine load tiles of Q, K and
V; each consumer, of four warps, computes 64 of the queries.

Blocks of keys are visited from last to first, so that those with masked scores come first, and one loop has none.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from .tiles import (
    Sizes,
    await_block,
    barrier,
    fetch_block,
    fetch_queries,
    job_of,
    place,
    produce,
    release,
    ring_of,
)

store_tile = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global  # after Triton 3.6, and in it
LOG2_E = gl.constexpr(1.4426950408889634)
LN_2 = gl.constexpr(0.6931471805599453)


@gluon.jit
def begin_scores(queries, ring, n, S_LAYOUT: gl.constexpr):
    """Start the products of queries and keys, which have been loaded."""
    BLOCK_N: gl.constexpr = ring.tiles.shape[2]
    at, _ = place(n, ring)
    keys = ring.tiles.index(at).reshape([BLOCK_N, queries.shape[1]])
    zeros = gl.full([queries.shape[0], BLOCK_N], 0.0, gl.float32, S_LAYOUT)
    return warpgroup_mma(queries, keys.permute((1, 0)), zeros, use_acc=False, is_async=True)


@gluon.jit
def begin_values(weights, total, ring, n):
    """Start adding weights times values to the total, as soon as the values have been loaded."""
    at, phase = place(n, ring)
    mbarrier.wait(ring.ready.index(at), phase)
    values = ring.tiles.index(at).reshape([ring.tiles.shape[2], ring.tiles.shape[3]])
    return warpgroup_mma(weights, values, total, is_async=True)


@gluon.jit
def masked(scores, rows, i, job, size, CAUSAL: gl.constexpr, S_LAYOUT: gl.constexpr):
    """Set scores of hidden keys to -inf."""
    BLOCK_N: gl.constexpr = scores.shape[1]
    keys = (job.blocks - 1 - i) * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(0, S_LAYOUT))
    if CAUSAL:
        high = gl.minimum(rows + size.offset + 1, size.seqlen_kv)
        return gl.where(keys[None, :] < high[:, None], scores, float("-inf"))
    else:  # noqa: RET505 - the compiler must not see the other branch
        return gl.where((keys < size.seqlen_kv)[None, :], scores, float("-inf"))


@gluon.jit
def soften(scores, maximum, reference, weight, factor, MASKED: gl.constexpr):
    """Do one step of the online softmax: compute the weights of a block, and update the rows' statistics.

    Returns:
        The weights, the factor for earlier sums, and the new maximum, reference and sum of weights.
    """
    maximum = gl.maximum(maximum, gl.max(scores, 1))
    before, reference = reference, maximum * factor
    subtracted = reference
    if MASKED:  # a row without a visible key so far: -inf - -inf would be NaN
        subtracted = gl.where(maximum == float("-inf"), 0.0, reference)
    # One rounding, of a number that is small where weights are large.
    weights = gl.exp2(gl.fma(scores, factor, -subtracted[:, None]))
    decay = gl.exp2(before - subtracted)
    return weights, decay, maximum, reference, weight * decay + gl.sum(weights, 1)


@gluon.jit
def in_turn(queries, rows, k, v, base, job, size, CAUSAL: gl.constexpr, SPECIALISED: gl.constexpr,
            S_LAYOUT: gl.constexpr, O_LAYOUT: gl.constexpr):  # fmt: skip
    """Compute scores, softmax and values one after another. Return the total and the rows' statistics."""
    ROW: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    factor = size.scale * LOG2_E
    maximum = gl.full([queries.shape[0]], float("-inf"), gl.float32, ROW)
    reference = maximum
    weight = gl.full([queries.shape[0]], 0.0, gl.float32, ROW)
    total = gl.full([queries.shape[0], queries.shape[1]], 0.0, gl.float32, O_LAYOUT)
    for stretch in gl.static_range(2):  # blocks with masked scores, blocks without
        here, there = (0, job.edge) if stretch == 0 else (job.edge, job.blocks)
        for i in range(here, there):
            await_block(k, i, base, job)
            scores = warpgroup_mma_wait(0, [begin_scores(queries, k, base + i, S_LAYOUT)])
            release(k, i, base, job, SPECIALISED)
            if stretch == 0:
                scores = masked(scores, rows, i, job, size, CAUSAL, S_LAYOUT)
            weights, decay, maximum, reference, weight = soften(
                scores, maximum, reference, weight, factor, stretch == 0
            )
            decay = gl.convert_layout(decay, gl.SliceLayout(1, O_LAYOUT), assert_trivial=True)
            p = gl.convert_layout(weights.to(queries.dtype), gl.DotOperandLayout(0, O_LAYOUT, 2))
            coming = begin_values(p, total * decay[:, None], v, base + i)
            total, p = warpgroup_mma_wait(0, [coming, p])
            release(v, i, base, job, SPECIALISED)
    return total, maximum, reference, weight


@gluon.jit
def overlapped(queries, rows, k, v, turns, base, turn, job, size,
               PART: gl.constexpr, CAUSAL: gl.constexpr, TURNS: gl.constexpr, SPECIALISED: gl.constexpr,
               S_LAYOUT: gl.constexpr, O_LAYOUT: gl.constexpr):  # fmt: skip
    """Like :func:`in_turn`, but overlap a block's softmax with the products with the values of the block before.

    ``TURNS``: consumers start their products one after another, so that one multiplies while another does its softmax.
    """
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    ROW: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    # The first consumer starts without waiting: its turns are one phase ahead.
    AHEAD: gl.constexpr = 1 if PART == 0 else 0
    factor = size.scale * LOG2_E
    maximum = gl.full([queries.shape[0]], float("-inf"), gl.float32, ROW)
    weight = gl.full([queries.shape[0]], 0.0, gl.float32, ROW)
    total = gl.full([queries.shape[0], queries.shape[1]], 0.0, gl.float32, O_LAYOUT)

    await_block(k, 0, base, job)
    scores = warpgroup_mma_wait(0, [begin_scores(queries, k, base, S_LAYOUT)])
    release(k, 0, base, job, SPECIALISED)
    scores = masked(scores, rows, 0, job, size, CAUSAL, S_LAYOUT)
    weights, _, maximum, reference, weight = soften(scores, maximum, maximum, weight, factor, True)
    p = gl.convert_layout(weights.to(queries.dtype), P_LAYOUT)
    await_block(k, 1, base, job)
    for stretch in gl.static_range(2):  # blocks with masked scores, blocks without
        # A full mask has masked scores only in the first block.
        if stretch == 1 or CAUSAL:
            here, there = (1, job.edge) if stretch == 0 else (gl.maximum(job.edge, 1), job.blocks)
            for i in range(here, there):
                if TURNS:
                    mbarrier.wait(turns.index(PART), (turn + i - 1 + AHEAD) & 1)
                coming = begin_scores(queries, k, base + i, S_LAYOUT)
                total = begin_values(p, total, v, base + i - 1)
                if TURNS:
                    mbarrier.arrive(turns.index((PART + 1) % turns.shape[0]), count=1)
                scores = warpgroup_mma_wait(1, [coming])
                release(k, i, base, job, SPECIALISED)
                if stretch == 0:
                    scores = masked(scores, rows, i, job, size, CAUSAL, S_LAYOUT)
                weights, decay, maximum, reference, weight = soften(
                    scores, maximum, reference, weight, factor, stretch == 0
                )
                # The assembler moves waits for products up, past the softmax, but not past the loop that waits for a
                # barrier: so the wait for the next keys is here, where it costs nothing.
                await_block(k, i + 1, base, job)
                total, p = warpgroup_mma_wait(0, [total, p])
                release(v, i - 1, base, job, SPECIALISED)
                decay = gl.convert_layout(decay, gl.SliceLayout(1, O_LAYOUT), assert_trivial=True)
                total = total * decay[:, None]
                p = gl.convert_layout(weights.to(queries.dtype), P_LAYOUT)
    coming = begin_values(p, total, v, base + job.blocks - 1)
    total, p = warpgroup_mma_wait(0, [coming, p])
    release(v, job.blocks - 1, base, job, SPECIALISED)
    return total, maximum, reference, weight


@gluon.jit
def finish(total, maximum, reference, weight, rows, out_desc, out_tile, lse_ptr, start, job, size,
           O_LAYOUT: gl.constexpr):  # fmt: skip
    """Write output and LSE of a consumer's rows; 0 and -inf for a row that sees no key."""
    empty = weight == 0.0
    weight = gl.where(empty, 1.0, weight)
    of_maximum = gl.fma(maximum, size.scale * LOG2_E, -reference)
    lse = gl.where(empty, float("-inf"), maximum * size.scale + (gl.log2(weight) - of_maximum) * LN_2)
    gl.store(lse_ptr + gl.cast(job.pair, gl.int64) * size.seqlen_q + rows, lse, mask=rows < size.seqlen_q)
    inverse = gl.convert_layout(1.0 / weight, gl.SliceLayout(1, O_LAYOUT), assert_trivial=True)
    tma.store_wait(0)  # of the job before
    barrier()
    rounded = (total * inverse[:, None]).to(out_tile.dtype)
    out_tile.reshape([out_tile.shape[1], out_tile.shape[2]]).store(rounded)
    fence_async_shared()
    store_tile(out_desc, [job.pair, start, 0], out_tile)


@gluon.jit
def consume(shared, PART: gl.constexpr, CAUSAL: gl.constexpr, ACROSS: gl.constexpr, OVERLAP: gl.constexpr,
            TURNS: gl.constexpr, APART: gl.constexpr, SPECIALISED: gl.constexpr):  # fmt: skip
    """Run a consumer: compute its rows of one job after another."""
    q, k, v, out_desc, out_tiles, turns, lse_ptr, size, jobs = shared
    PARTS: gl.constexpr = q.tiles.shape[0]
    ROWS: gl.constexpr = q.tiles.shape[2]
    DIM: gl.constexpr = q.tiles.shape[3]
    BLOCK_N: gl.constexpr = k.tiles.shape[2]
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [ROWS // 16, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [ROWS // 16, 1], [16, DIM, 16])
    queries = q.tiles.index(PART).reshape([ROWS, DIM])
    base = 0
    round_ = 0
    for index in range(gl.program_id(0), jobs, gl.num_programs(0)):
        job = job_of(index, size, ROWS * PARTS, BLOCK_N, CAUSAL, ACROSS)
        start = job.start_m + PART * ROWS
        rows = start + gl.arange(0, ROWS, gl.SliceLayout(1, S_LAYOUT))
        mbarrier.wait(q.ready.index(PART), round_ & 1)
        if OVERLAP:
            # A job has one turn fewer than blocks.
            total, maximum, reference, weight = overlapped(
                queries, rows, k, v, turns, base, base - round_, job, size, PART, CAUSAL, TURNS, SPECIALISED,
                S_LAYOUT, O_LAYOUT,
            )  # fmt: skip
        else:
            total, maximum, reference, weight = in_turn(
                queries, rows, k, v, base, job, size, CAUSAL, SPECIALISED, S_LAYOUT, O_LAYOUT
            )
        if APART and SPECIALISED:
            mbarrier.arrive(q.empty.index(PART), count=1)
        out_tile = out_tiles.index(PART)
        finish(total, maximum, reference, weight, rows, out_desc, out_tile, lse_ptr, start, job, size, O_LAYOUT)
        if not APART:
            tma.store_wait(0)
            if SPECIALISED:
                mbarrier.arrive(q.empty.index(PART), count=1)
        base += job.blocks
        round_ += 1
    tma.store_wait(0)


# Lengths are not specialised: the same compiled kernel serves all lengths.
@gluon.jit(do_not_specialize=["pairs", "group", "seqlen_q", "seqlen_kv", "offset", "jobs"])
def forward(
    q_desc, k_desc, v_desc, out_desc, lse_ptr, pairs, group, seqlen_q, seqlen_kv, offset, scale, jobs,
    PARTS: gl.constexpr, STAGES: gl.constexpr, CAUSAL: gl.constexpr, ACROSS: gl.constexpr, OVERLAP: gl.constexpr,
    TURNS: gl.constexpr, APART: gl.constexpr, SPECIALISED: gl.constexpr,
    REGISTERS: gl.constexpr, PRODUCER_REGISTERS: gl.constexpr,
):  # fmt: skip
    """Compute attention, with as many programs as there are jobs, or fewer.

    Args:
        q_desc, k_desc, v_desc, out_desc: see :class:`Ring`.
        lse_ptr: (batch, heads_q, seqlen_q), float32, contiguous; natural logarithm.
        pairs, group, seqlen_q, seqlen_kv, offset, scale: see :class:`Sizes`.
        jobs: number of blocks of queries, of all heads.
        PARTS: number of consumers; each has the rows of a tile of ``q_desc``.
        STAGES: number of tiles of K, and of V, that there is room for.
        APART: the output has its own tiles in shared memory; else it shares those of the queries, which load later.
        REGISTERS: registers per thread of a consumer.
    """
    size = Sizes(pairs, group, seqlen_q, seqlen_kv, offset, scale)
    q = ring_of(q_desc, PARTS, 1)
    k = ring_of(k_desc, STAGES, PARTS)
    v = ring_of(v_desc, STAGES, PARTS)
    out_tiles = q.tiles
    if APART:
        out_tiles = gl.allocate_shared_memory(out_desc.dtype, q.tiles.shape, out_desc.layout)
    turns = gl.allocate_shared_memory(gl.int64, [PARTS, 1], mbarrier.MBarrierLayout())
    for part in gl.static_range(PARTS):
        mbarrier.init(turns.index(part), count=1)
    fence_async_shared()
    shared = (q, k, v, out_desc, out_tiles, turns, lse_ptr, size, jobs)
    if not SPECIALISED:  # a program has one job
        job = job_of(gl.program_id(0), size, q_desc.block_type.shape[1], k_desc.block_type.shape[1], CAUSAL, ACROSS)
        fetch_queries(q, 0, job)
        for at in gl.static_range(STAGES):
            fetch_block(k, at, 0, job, at < job.blocks)
            fetch_block(v, at, 0, job, at < job.blocks)
        consume(shared, 0, CAUSAL, ACROSS, OVERLAP, False, APART, False)
    elif PARTS == 2:
        gl.warp_specialize(
            [
                (consume, (shared, 0, CAUSAL, ACROSS, OVERLAP, TURNS, APART, True)),
                (consume, (shared, 1, CAUSAL, ACROSS, OVERLAP, TURNS, APART, True)),
                (produce, (q, k, v, size, jobs, CAUSAL, ACROSS)),
            ],
            [4, 1],
            [REGISTERS, PRODUCER_REGISTERS],
        )
    else:
        gl.warp_specialize(
            [
                (consume, (shared, 0, CAUSAL, ACROSS, OVERLAP, TURNS, APART, True)),
                (consume, (shared, 1, CAUSAL, ACROSS, OVERLAP, TURNS, APART, True)),
                (consume, (shared, 2, CAUSAL, ACROSS, OVERLAP, TURNS, APART, True)),
                (produce, (q, k, v, size, jobs, CAUSAL, ACROSS)),
            ],
            [4, 4, 1],
            [REGISTERS, REGISTERS, PRODUCER_REGISTERS],
        )
