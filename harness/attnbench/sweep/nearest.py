"""Suggests the name that was probably meant: similar in spelling, in the order of its parts, or in meaning."""

from __future__ import annotations

import difflib
import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEAR = 0.7
_MEANINGS = {
    # fields of a case
    "batch": "b batch_size bs",
    "heads": "h n_heads num_heads num_attention_heads",
    "heads_kv": "num_kv_heads num_key_value_heads groups",
    "seqlen": "length sequence sequence_length context tokens n",
    "head_dim": "d dim d_head d_k head_size hidden_dim",
    "head_dim_v": "dv d_v",
    "dtype": "precision data_type type",
    "mask": "causal is_causal attn_mask",
    "alignment": "diagonal corner",
    "window_left": "window window_size",
    "prefix_len": "prefix",
    "document_lengths": "cu_seqlens lengths varlen",
    "kv_lengths": "padding seqused_k",
    "kv_starts": "left_pad leftpad_k",
    "score_mod": "bias alibi sink",
    "softcap": "cap logit_cap",
    "scale": "softmax_scale sm_scale temperature",
    "kv_cache": "cache paged",
    "page_size": "block_size",
    "kv_dtype": "kv_cache_dtype quantisation quantization",
    "dropout": "dropout_p p_drop",
    "bias_grad": "dbias d_bias bias_gradient",
    "inputs": "values distribution",
    # what a file of scenarios may hold
    "axes": "sweep grid parameters",
    "shapes": "cases",
    "implementations": "kernels backends include",
    "exclude_implementations": "skip",
    "stages": "measure",
    "time_s": "timeout",
    "memory_gib": "ram memory_limit",
    "sampling_s": "duration min_time",
    "max_samples": "samples iterations iters repeats",
    # values
    "cuda": "gpu nvidia",
    "float64": "fp64 f64 double",
    "float32": "fp32 f32 float single",
    "float16": "fp16 f16 half",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8 f8 float8",
    "forward": "fwd inference",
    "backward": "bwd",
    "forward_backward": "training train",
    "none": "full dense no",
    "sliding_window": "window local swa",
    "key_padding": "padding",
    "document": "varlen packed",
    "bottom_right": "right last",
}
"""Names that others use for the same."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` if a known name is near, else an empty text."""
    near = max(known, key=functools.partial(_nearness, word.lower()), default="")
    return f"; did you mean {near!r}?" if near and _nearness(word.lower(), near) >= _NEAR else ""


def unknown(noun: str, word: str, known: Iterable[str]) -> str:
    """Return a message that there is no such field, key or the like, with the nearest name and all known ones."""
    names = list(known)
    return f"unknown {noun}{did_you_mean(word, names)} (there are {', '.join(names)})"


def _nearness(word: str, name: str) -> float:
    """Return 1 for a synonym or the same parts in another order, else the similarity of the spelling."""
    if word in _MEANINGS.get(name, "").split() or _parts(word) == _parts(name):
        return 1.0
    return difflib.SequenceMatcher(None, word, name).ratio()


def _parts(name: str) -> list[str]:
    return sorted(part for part in re.split(r"[^a-z0-9]+", name) if part)
