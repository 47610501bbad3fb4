"""A block of scores: some queries, some keys, and their part of the mask.

The kernel is torch's FlashAttention for the CPU, which returns the LSE of each row along with the output.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench import batch_varies, row_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench import Case

ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2}
SUPPORTED: dict[str, Any] = {
    "dtypes": tuple(ITEM_BYTES),
    "masks": ("none", "causal", "sliding_window", "prefix_lm", "document", "key_padding"),
    "mask_intersections": True,
    "modes": ("forward", "backward", "forward_backward"),
    "operators": ("attention",),
    "alignments": ("top_left", "bottom_right"),
    "gqa": True,
    "memory": "O(n)",
    "ranks": True,
}


class Block:
    """Rows of a rank's queries, and some of the keys that it meets."""

    def __init__(self, case: Case, rows: slice, keys: slice, seen: NDArray[np.bool_], *, is_triangle: bool) -> None:
        import torch

        self.scale, self.rows, self.keys = case.scale, rows, keys
        self.is_triangle = is_triangle
        self.bias = self.blind = None
        if not is_triangle and not seen.all():
            visible = torch.from_numpy(seen)[:, None]  # (batch or 1, 1, rows, keys)
            self.bias = torch.zeros(visible.shape, dtype=getattr(torch, case.dtype)).masked_fill(~visible, -torch.inf)
            self.blind = ~visible.any(-1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of these rows over these keys alone, and its LSE; -inf for a row that sees none of them."""
        import torch

        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001 - torch's name for it
            q[:, :, self.rows], k[:, :, self.keys], v[:, :, self.keys], 0.0, self.is_triangle,
            attn_mask=self.bias, scale=self.scale,
        )  # fmt: skip
        return out, lse if self.blind is None else lse.masked_fill(self.blind, -torch.inf)

    def gradients(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the terms that this block adds to dQ of its rows and to dK and dV of its keys.

        ``out`` and ``lse`` are those over all keys, so that P = exp(S - LSE) and dS = P * (dO V^T - rowsum(dO * O))
        hold in each block by itself.
        """
        import torch

        rows, keys = self.rows, self.keys
        finite = lse[:, :, rows].masked_fill(torch.isneginf(lse[:, :, rows]), 0)
        found: tuple[Tensor, Tensor, Tensor] = (
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(  # noqa: SLF001 - the same
                dout[:, :, rows], q[:, :, rows], k[:, :, keys], v[:, :, keys], out[:, :, rows], finite, 0.0,
                self.is_triangle, attn_mask=self.bias, scale=self.scale,
            )
        )  # fmt: skip
        return found


def merge(out: Tensor, lse: Tensor, more: Tensor, more_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Merge two outputs over different keys, weighted by their shares exp(LSE) of the total."""
    import torch

    total = torch.logaddexp(lse, more_lse)
    finite = total.masked_fill(torch.isneginf(total), 0)  # -inf - -inf would be NaN
    return out * (lse - finite).exp()[..., None] + more * (more_lse - finite).exp()[..., None], total


def blocks_between(case: Case, queries: Sequence[int], keys: Sequence[int]) -> list[Block]:
    """Return the blocks in which tokens at these positions meet, without blocks that the mask hides completely."""
    found = []
    runs = [row_runs(case, batch_index) for batch_index in range(case.batch if batch_varies(case) else 1)]
    for rows, of_rows in pieces(queries):
        for columns, of_columns in pieces(keys):
            seen = np.stack([visible(one[of_rows], of_columns) for one in runs])
            if seen.any():
                is_triangle = case.mask == "causal" and of_rows == of_columns and case.diagonal_offset == 0
                found.append(Block(case, rows, columns, seen, is_triangle=is_triangle))
    return found


def chunk(seqlen: int, number: int, chunks: int) -> range:
    """Return one of ``chunks`` chunks of a sequence, whose lengths differ by at most one token."""
    return range(number * seqlen // chunks, (number + 1) * seqlen // chunks)


def pieces(positions: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Yield runs of neighbouring tokens: their place in the rank's tensors, and their positions in the sequence."""
    breaks = [0, *(i for i in range(1, len(positions)) if positions[i] != positions[i - 1] + 1), len(positions)]
    for start, stop in itertools.pairwise(breaks):
        if start < stop:
            yield slice(start, stop), slice(positions[start], positions[stop - 1] + 1)


def visible(runs: NDArray[np.int64], keys: slice) -> NDArray[np.bool_]:
    """Return which keys rows with runs (rows, runs, 2) see: (rows, keys)."""
    positions = np.arange(keys.start, keys.stop)
    seen = (runs[:, :, :1] <= positions) & (positions < runs[:, :, 1:])
    found: NDArray[np.bool_] = np.logical_or.reduce(seen, axis=1)
    return found


def too_short(case: Case, tokens: int, ranks: int) -> str | None:
    """Return why the sequences are too short for ``tokens`` tokens on each rank, or ``None``."""
    shortest = min(case.seqlen_q, case.seqlen_kv)
    return f"{shortest} tokens are fewer than {tokens} for each of {ranks} ranks" if shortest < tokens * ranks else None
