"""PyTorch's flex_attention: the mask and the score modification are functions that are compiled into one kernel.

Dong et al., "Flex Attention: A Programming Model for Generating Optimized Attention Kernels" (2024). Preparation
classifies the blocks of the mask as empty, full or mixed (torch materialises the mask for that); the kernel is compiled
at the first call. On a CPU torch generates C++, for the forward pass only.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench import (
    alibi_slopes,
    attention,
    batch_varies,
    block_table,
    dense_bias,
    dense_mask,
    is_bidirectional,
    relative_buckets,
    row_bounds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench import Case, Operands

    MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

BLOCK = 128
"""Number of queries, and of keys, in a block; torch's default."""
LEAST_BLOCK = 64
"""Block sizes must be multiples of this, the size of the kernel's tiles."""


@attention(
    "torch/flex",
    device=("cpu", "cuda"),
    dtypes=("float32", "float16", "bfloat16"),
    masks=(
        "none",
        "causal",
        "sliding_window",
        "prefix_lm",
        "document",
        "key_padding",
        "left_padding",
        "tree",
        "tensor",
        "block_sparse",
        "ragged",
    ),
    mask_intersections=True,
    modes=("forward", "backward", "forward_backward"),
    score_mods=("none", "softcap", "alibi", "relative_bias", "bias"),
    score_mod_combinations=True,
    alignments=("top_left", "bottom_right"),
    strides=("contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv"),
    kv_caches=("dense", "latent"),
    empty=True,
    gqa=True,
    unequal_head_dims=True,
    memory="O(n)",
)
def flex(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """PyTorch's flex_attention, compiled, with the mask and the score modification as functions."""
    out: Tensor = plan.function(
        q,
        k,
        v,
        score_mod=plan.score_mod,
        block_mask=plan.block_mask,
        scale=case.scale,
        enable_gqa=case.heads_q != case.heads_kv,
    )
    return out


@flex.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why flex_attention cannot run the case, or ``None``."""
    if device == "cpu" and not (case.batch and case.seqlen_q and case.seqlen_kv):
        return "the kernel that torch compiles for the CPU divides by sizes that are 0: SIGFPE ends the process"
    if device == "cpu" and case.needs_gradients:
        return "flex_attention is for inference only on the CPU: it has no backward pass there"
    return None


@flex.available
def needs_compiler() -> str | None:
    """Return a sentence if there is no C++ compiler, which torch.compile needs on a CPU."""
    if shutil.which("g++") or shutil.which("clang++") or shutil.which("c++"):
        return None
    return "torch.compile needs a C++ compiler, and none is on the PATH (g++ or clang++)"


class Plan:
    """The block mask, the score modification, and the function to compile."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        device = operands.q.device
        self.score_mod = score_mod_of(case, operands)
        mask_mod = mask_mod_of(case, device)
        if mask_mod is None and device.type == "cpu":
            mask_mod = everything  # without blocks, the CPU kernel treats all scores as one block: O(n^2) memory
        batch = case.batch if batch_varies(case) else None
        # If the mask itself has blocks, the kernel uses the same if possible, so that no block is mixed.
        size = case.mask_block_size if (case.mask_block_size or 1) % LEAST_BLOCK == 0 else None
        self.block_mask = mask_mod and create_block_mask(
            mask_mod, batch, None, case.seqlen_q, case.seqlen_kv, device=str(device), BLOCK_SIZE=size or BLOCK
        )
        self.function: Any = torch.compile(flex_attention, dynamic=False)


flex.prepare(Plan)


def everything(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Mask function that hides nothing."""
    return j >= 0


def mask_mod_of(case: Case, device: Any) -> MaskMod | None:
    """Return the function of whether query i sees key j, or ``None`` if every query sees every key."""
    from torch.nn.attention.flex_attention import and_masks

    if case.mask == "none":
        return None
    kinds = case.mask_kinds if case.requests is None else ("ragged",)  # whose bounds know a window, too
    mods = [mod_of_kind(kind, case, device) for kind in kinds]
    return mods[0] if len(mods) == 1 else and_masks(*mods)


def mod_of_kind(kind: str, case: Case, device: Any) -> MaskMod:
    """Return the mask function of one of the mask's kinds."""
    import torch

    offset = case.diagonal_offset
    left, right, prefix = case.window_left or 0, case.window_right or 0, case.prefix_len or 0

    def causal(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return j <= i + offset

    def sliding_window(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j >= i + offset - left) & (j <= i + offset + right)

    def prefix_lm(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j < prefix) | (j <= i + offset)

    if kind == "document":
        assert case.document_lengths is not None
        document = torch.repeat_interleave(torch.tensor(case.document_lengths)).to(device)  # (seqlen,)

        def same_document(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return document[i] == document[j]

        def earlier_in_document(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return (document[i] == document[j]) & (j <= i)

        return earlier_in_document if case.document_causal else same_document

    if kind == "key_padding":
        lengths = torch.tensor(case.kv_lengths, device=device)  # (batch,)

        def is_real(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return j < lengths[b]

        return is_real

    if kind == "ragged":
        low, high = (torch.from_numpy(bound).to(device) for bound in row_bounds(case, 0))  # (seqlen_q,)

        def same_request(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return (low[i] <= j) & (j < high[i])

        return same_request

    if kind == "left_padding":
        starts = torch.tensor(case.kv_starts, device=device)  # (batch,)

        def is_behind_padding(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return j >= starts[b]

        return is_behind_padding

    if kind == "tree":
        assert case.tree_parents is not None
        first, before = case.seqlen_kv - len(case.tree_parents), case.seqlen_q - len(case.tree_parents)
        plane = torch.from_numpy(dense_mask(dataclasses.replace(case, mask="tree"))[0, 0, before:, first:]).to(device)

        def path_of_draft(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            ancestor = plane[(i - before).clamp(min=0), (j - first).clamp(min=0)]  # (drafts, drafts)
            return torch.where(j < first, j <= i + case.seqlen_kv - case.seqlen_q, (i >= before) & ancestor)

        return path_of_draft

    if kind == "block_sparse":
        table, size = torch.from_numpy(block_table(case).copy()).to(device), case.mask_block_size or 1

        def is_listed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            listed: Tensor = table[i // size, j // size]  # (blocks of queries, blocks of keys)
            return listed

        return is_listed

    if kind == "tensor":
        whole = torch.from_numpy(dense_mask(dataclasses.replace(case, mask="tensor"))).to(device)

        def is_shown(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            shown: Tensor = whole[b, 0, i, j]  # (batch, 1, seqlen_q, seqlen_kv)
            return shown

        return is_shown

    return {"causal": causal, "sliding_window": sliding_window, "prefix_lm": prefix_lm}[kind]


def score_mod_of(case: Case, operands: Operands) -> ScoreMod | None:
    """Return a function that applies all score modifications in order, or ``None`` if there are none."""
    mods = [mod_of_name(name, case, operands) for name in case.score_mods if name != "none"]

    def one_after_the_other(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return functools.reduce(lambda changed, mod: mod(changed, b, h, i, j), mods, score)

    return (mods[0] if len(mods) == 1 else one_after_the_other) if mods else None


def mod_of_name(name: str, case: Case, operands: Operands) -> ScoreMod:
    """Return the function of one score modification."""
    import torch

    offset, cap = case.diagonal_offset, case.softcap or 0.0
    device = operands.q.device

    if name == "softcap":

        def softcap(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return cap * torch.tanh(score / cap)

        return softcap

    if name == "alibi":
        slopes = torch.from_numpy(alibi_slopes(case.heads_q)).to(device, torch.float32)  # (heads_q,)

        def alibi(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score - slopes[h] * torch.abs(j - i - offset)

        return alibi

    if name == "relative_bias":
        assert operands.relative_bias is not None
        distance = np.arange(1 - case.seqlen_q, case.seqlen_kv) - offset
        buckets = torch.from_numpy(relative_buckets(distance, bidirectional=is_bidirectional(case))).to(device)
        bias: Tensor = operands.relative_bias[:, buckets].contiguous()  # (heads_q, seqlen_q + seqlen_kv - 1)
        zero = case.seqlen_q - 1

        def relative_bias(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + bias[h, j - i + zero]

        return relative_bias

    tensor = dense_bias(dataclasses.replace(case, score_mod="bias"), None)
    assert tensor is not None
    shape = (case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv)
    given = torch.from_numpy(tensor).to(device, torch.float32).expand(shape)

    def added(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score + given[b, h, i, j]

    return added
