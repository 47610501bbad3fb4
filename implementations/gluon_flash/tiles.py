"""Jobs, rings of tiles in shared memory, and the producer of ``gluon/flash``.

Barriers in shared memory tell consumers that a tile has come, and the producer that all who need a tile have read it.
A barrier has phases, and a wait names the parity of the phase that is to be over: the ``n``-th tile of a ring of
``PLACES`` completes phase ``n // PLACES`` of the barriers of its place.
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
    """Places in shared memory that one kind of tile takes in turn."""

    desc: Any
    """The tensor that they come from: (batch * heads, seqlen, head_dim), in tiles of (1, rows, head_dim)."""
    tiles: Any
    """(places, 1, rows, head_dim)."""
    ready: Any
    """A barrier for each place: its tile has come."""
    empty: Any
    """A barrier for each place: its tile has been read."""


class Sizes(NamedTuple):
    """The case."""

    pairs: Any
    """Batch times query heads."""
    group: Any
    """Query heads that share a head of K and V."""
    seqlen_q: Any
    seqlen_kv: Any
    offset: Any
    """Query ``i`` stands at key ``i + offset``."""
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
    """How many of them have masked scores; they go first."""


@gluon.jit
def job_of(index, size, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, CAUSAL: gl.constexpr, ACROSS: gl.constexpr):
    """Job ``index``. Where the mask is a triangle the longest go first, of a head, or of all heads if ``ACROSS``."""
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
    # Where no row sees a key, one block of keys is masked throughout.
    blocks = gl.maximum(gl.cdiv(most, BLOCK_N), 1)
    edge = blocks - gl.minimum(least // BLOCK_N, blocks)
    return Job(pair, pair // size.group, start_m, blocks, edge)


@gluon.jit
def ring_of(desc, PLACES: gl.constexpr, READERS: gl.constexpr):
    """A ring, and its barriers: a tile has come when its bytes have, and was read when all its readers say so."""
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
    """Ask for a tile, the ``n``-th of its ring: it completes its barrier when it is there."""
    at, _ = place(n, ring)
    mbarrier.expect(ring.ready.index(at), ring.desc.block_type.nbytes, pred=pred)
    load_tile(ring.desc, [head, start, 0], ring.ready.index(at), ring.tiles.index(at), pred=pred)


@gluon.jit
def fetch_block(ring, i, base, job, pred):
    """Ask for the ``i``-th block of keys, or values, of a job."""
    ROWS: gl.constexpr = ring.tiles.shape[2]
    fetch(ring, base + i, job.head_kv, (job.blocks - 1 - i) * ROWS, pred)


@gluon.jit
def fetch_queries(ring, round_, job):
    """Ask for each consumer's queries, once the one before has done with its own."""
    PARTS: gl.constexpr = ring.tiles.shape[0]
    ROWS: gl.constexpr = ring.tiles.shape[2]
    for part in gl.static_range(PARTS):
        mbarrier.wait(ring.empty.index(part), (round_ & 1) ^ 1)
        fetch(ring, part, job.pair, job.start_m + part * ROWS, True)


@gluon.jit
def produce(q, k, v, size, jobs, CAUSAL: gl.constexpr, ACROSS: gl.constexpr):
    """The producer: tiles as soon as there is room for them."""
    BLOCK_M: gl.constexpr = q.tiles.shape[0] * q.tiles.shape[2]
    base = 0
    round_ = 0
    for index in range(gl.program_id(0), jobs, gl.num_programs(0)):
        job = job_of(index, size, BLOCK_M, k.tiles.shape[2], CAUSAL, ACROSS)
        fetch_queries(q, round_, job)
        for i in range(job.blocks):
            at, phase = place(base + i, k)
            # Of a barrier on which nothing has completed yet, the phase before the first counts as complete.
            mbarrier.wait(k.empty.index(at), phase ^ 1)
            fetch_block(k, i, base, job, True)
            mbarrier.wait(v.empty.index(at), phase ^ 1)
            fetch_block(v, i, base, job, True)
        base += job.blocks
        round_ += 1


@gluon.jit
def release(ring, i, base, job, SPECIALISED: gl.constexpr):
    """This consumer has read a tile. Where no warp is a producer, its place is filled at once."""
    if SPECIALISED:
        at, _ = place(base + i, ring)
        mbarrier.arrive(ring.empty.index(at), count=1)
    else:
        barrier()
        ahead = i + ring.tiles.shape[0]
        fetch_block(ring, ahead, base, job, ahead < job.blocks)


@gluon.jit
def await_block(ring, i, base, job):
    """Wait until the ``i``-th tile of a job is there, if there is such a tile."""
    at, phase = place(base + i, ring)
    mbarrier.wait(ring.ready.index(at), phase, pred=i < job.blocks)
