"""Launches ``gluon/flash``: variants of the kernel, descriptors, grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 64
"""Queries per consumer, the number that a warp group multiplies at once."""
PRODUCER_REGISTERS = 24
SHARED_BYTES = 226 * 2**10
"""Shared memory that a program has for tiles: 227 KiB less the barriers."""


@dataclass(frozen=True)
class Variant:
    """A configuration of the kernel."""

    block_n: int = 128
    """Keys of a tile."""
    stages: int = 2
    """Number of tiles of K, and of V, in shared memory."""
    consumers: int = 2
    """Number of warp groups that compute, 64 queries each."""
    overlap: bool = True
    """Whether scores of a block are computed during the softmax of the block before."""
    turns: bool = False
    """Whether consumers multiply in turns, so that one does its softmax while the other multiplies."""
    persistent: bool = True
    """Whether there is one program per multiprocessor, which takes one block of queries after another."""
    specialised: bool = True
    """Whether one warp fetches; else the computing warps fetch, and all of them share one tile of queries."""

    @property
    def registers(self) -> int:
        """Registers per thread of a consumer; a multiprocessor has 2^16."""
        groups = self.consumers + 1
        share = 2**16 // (128 * groups) // 8 * 8
        return min((share * groups - PRODUCER_REGISTERS) // self.consumers // 8 * 8, 240)

    def shared_bytes(self, head_dim: int, *, apart: bool) -> int:
        """Return the shared memory of the tiles; ``apart``: the output has tiles of its own besides the queries'."""
        return 2 * head_dim * (ROWS * self.consumers * (1 + apart) + 2 * self.stages * self.block_n)

    def __str__(self) -> str:
        """Return the text for a record."""
        named = [name for name in ("specialised", "overlap", "turns", "persistent") if getattr(self, name)]
        return f"{ROWS * self.consumers}x{self.block_n}, {self.stages} stages, {', '.join(named) or 'plain'}"


def descriptor(tensor: Tensor, rows: int) -> Any:
    """Return a TMA descriptor: tiles of ``rows`` tokens of one head of a contiguous (batch, heads, seqlen, head_dim).

    Three axes separate the heads: elements past a head's last token read as 0, and are not written.
    """
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    batch, heads, seqlen, dim = tensor.shape
    block = [1, rows, dim]
    layout = gl.NVMMASharedLayout.get_default_for(block, gl.float16)  # or any other dtype of 16 bits
    return TensorDescriptor(tensor, [batch * heads, seqlen, dim], [seqlen * dim, dim, 1], block, layout)


def launch(
    variant: Variant, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    *, causal: bool, offset: int, scale: float, compile_only: bool = False,
) -> Any:  # fmt: skip
    """Compute attention into ``out`` and ``lse``; all tensors are contiguous, (batch, heads, seqlen, dim).

    Returns:
        The compiled kernel.
    """
    from .forward import forward

    rows = ROWS if variant.specialised else ROWS * variant.consumers
    pairs, group = q.shape[0] * q.shape[1], q.shape[1] // k.shape[1]
    jobs = -(-q.shape[2] // (ROWS * variant.consumers)) * pairs
    apart = variant.shared_bytes(q.shape[3], apart=True) <= SHARED_BYTES
    persistent = variant.persistent and variant.specialised
    return forward.run(
        descriptor(q, rows), descriptor(k, variant.block_n), descriptor(v, variant.block_n), descriptor(out, rows),
        lse, pairs, group, q.shape[2], k.shape[2], offset, scale, jobs,
        PARTS=variant.consumers if variant.specialised else 1, STAGES=variant.stages,
        CAUSAL=causal, ACROSS=causal and persistent, OVERLAP=variant.overlap, TURNS=variant.turns,
        APART=apart, SPECIALISED=variant.specialised,
        REGISTERS=variant.registers, PRODUCER_REGISTERS=PRODUCER_REGISTERS,
        num_warps=rows // 16, grid=(min(jobs, _multiprocessors()) if persistent else jobs,), warmup=compile_only,
    )  # fmt: skip


@cache
def _multiprocessors() -> int:
    import torch

    return int(torch.cuda.get_device_properties().multi_processor_count)


BEST = {
    (64, "none"): Variant(consumers=3),
    (64, "causal"): Variant(consumers=3, turns=True),
    (128, "none"): Variant(stages=3),
    (128, "causal"): Variant(turns=True),
}
"""By head dim and mask, as measured (docs/gluon-flash.md)."""
