"""Jobs, rings of tiles in shared memory, and the producer of ``gluon/flash``.

Barriers in shared memory signal to consumers that a tile has arrived, and to the producer that all readers have read a
tile. A barrier has phases, and a wait names the parity of the phase that must be complete: the ``n``-th tile of a ring
of ``PLACES`` completes phase ``n // PLACES`` of the barriers of its place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma

# Names of Triton 3.6, and of later versions.
barrier = getattr(gl, "thread_barrier", None) or gl.barrier
load_tile = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared


class Ring(NamedTuple):
    """A ring of places in shared memory for one kind of tile."""

    desc: Any
    """The source tensor, (batch * heads, seqlen, head_dim), in tiles of (1, rows, head_dim)."""
    tiles: Any
    """(places, 1, rows, head_dim)."""
    ready: Any
    """A barrier per place: its tile has arrived."""
    empty: Any
    """A barrier per place: its tile has been read."""


class Sizes(NamedTuple):
    """The sizes of the case."""

    pairs: Any
    """Batch times query heads."""
    group: Any
    """Number of query heads that share a key head."""
    seqlen_q: Any
    seqlen_kv: Any
    offset: Any
    """Query ``i`` is at key position ``i + offset``."""
    scale: Any


class Job(NamedTuple):
    """One block of queries of one head."""

    pair: Any
    """Batch and head of the queries, as one index."""
    head_kv: Any
    """Batch and head of the keys, as one index."""
    start_m: Any
    blocks: Any
    """Number of blocks of keys, at least one."""
    edge: Any
    """Number of these with masked scores; they come first."""


@gluon.jit
def job_of(index, size, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, CAUSAL: gl.constexpr, ACROSS: gl.constexpr):
    """Return job ``index``. Under a causal mask the longest come first, per head, or over all heads if ``ACROSS``."""
    tiles = gl.cdiv(size.seqlen_q, BLOCK_M)
    if ACROSS:
        pair = index % size.pairs
        tile = index // size.pairs
    else:
        pair = index // tiles
        tile = index % tiles
    if CAUSAL:
        start_m = (tiles - 1 - tile) * BLOCK_M
        first = start_m + size.offset + 1
        last = gl.minimum(start_m + BLOCK_M, size.seqlen_q) + size.offset
        least = gl.maximum(gl.minimum(first, size.seqlen_kv), 0)
        most = gl.maximum(gl.minimum(last, size.seqlen_kv), 0)
    else:
        start_m = tile * BLOCK_M
        least = size.seqlen_kv
        most = size.seqlen_kv
    # If no row sees a key, one block of keys is masked completely.
    blocks = gl.maximum(gl.cdiv(most, BLOCK_N), 1)
    edge = blocks - gl.minimum(least // BLOCK_N, blocks)
    return Job(pair, pair // size.group, start_m, blocks, edge)


@gluon.jit
def ring_of(desc, PLACES: gl.constexpr, READERS: gl.constexpr):
    """Allocate a ring with its barriers: ``ready`` counts the bytes of a tile, ``empty`` its readers."""
    tiles = gl.allocate_shared_memory(desc.dtype, [PLACES] + desc.block_type.shape, desc.layout)
    ready = gl.allocate_shared_memory(gl.int64, [PLACES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [PLACES, 1], mbarrier.MBarrierLayout())
    for at in gl.static_range(PLACES):
        mbarrier.init(ready.index(at), count=1)
        mbarrier.init(empty.index(at), count=READERS)
    return Ring(desc, tiles, ready, empty)


@gluon.jit
def place(n, ring):
    """Return the place of the ``n``-th tile in a ring, and the phase of the barriers that it completes."""
    PLACES: gl.constexpr = ring.tiles.shape[0]
    return n % PLACES, (n // PLACES) & 1


@gluon.jit
def fetch(ring, n, head, start, pred):
    """Request the ``n``-th tile of a ring, which completes its barrier when it arrives."""
    at, _ = place(n, ring)
    mbarrier.expect(ring.ready.index(at), ring.desc.block_type.nbytes, pred=pred)
    load_tile(ring.desc, [head, start, 0], ring.ready.index(at), ring.tiles.index(at), pred=pred)


@gluon.jit
def fetch_block(ring, i, base, job, pred):
    """Request the ``i``-th block of keys, or values, of a job."""
    ROWS: gl.constexpr = ring.tiles.shape[2]
    fetch(ring, base + i, job.head_kv, (job.blocks - 1 - i) * ROWS, pred)


@gluon.jit
def fetch_queries(ring, round_, job):
    """Request each consumer's queries, once those of the job before have been read."""
    PARTS: gl.constexpr = ring.tiles.shape[0]
    ROWS: gl.constexpr = ring.tiles.shape[2]
    for part in gl.static_range(PARTS):
        mbarrier.wait(ring.empty.index(part), (round_ & 1) ^ 1)
        fetch(ring, part, job.pair, job.start_m + part * ROWS, True)


@gluon.jit
def produce(q, k, v, size, jobs, CAUSAL: gl.constexpr, ACROSS: gl.constexpr):
    """Run the producer: request tiles as soon as there is room for them."""
    BLOCK_M: gl.constexpr = q.tiles.shape[0] * q.tiles.shape[2]
    base = 0
    round_ = 0
    for index in range(gl.program_id(0), jobs, gl.num_programs(0)):
        job = job_of(index, size, BLOCK_M, k.tiles.shape[2], CAUSAL, ACROSS)
        fetch_queries(q, round_, job)
        for i in range(job.blocks):
            at, phase = place(base + i, k)
            # On a barrier without a completed phase, the phase before the first counts as complete.
            mbarrier.wait(k.empty.index(at), phase ^ 1)
            fetch_block(k, i, base, job, True)
            mbarrier.wait(v.empty.index(at), phase ^ 1)
            fetch_block(v, i, base, job, True)
        base += job.blocks
        round_ += 1


@gluon.jit
def release(ring, i, base, job, SPECIALISED: gl.constexpr):
    """Signal that this consumer has read a tile. Without a producer warp, refill its place at once."""
    if SPECIALISED:
        at, _ = place(base + i, ring)
        mbarrier.arrive(ring.empty.index(at), count=1)
    else:
        barrier()
        ahead = i + ring.tiles.shape[0]
        fetch_block(ring, ahead, base, job, ahead < job.blocks)


@gluon.jit
def await_block(ring, i, base, job):
    """Wait until the ``i``-th tile of a job has arrived, if there is such a tile."""
    at, phase = place(base + i, ring)
    mbarrier.wait(ring.ready.index(at), phase, pred=i < job.blocks)
