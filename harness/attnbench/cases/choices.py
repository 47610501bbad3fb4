"""The values that the fields of a case may take."""

from __future__ import annotations

from typing import Literal, get_args

from attnbench.cases.masks.table import MASK_KINDS
from attnbench.cases.score_mods import SCORE_MODS

Operator = Literal["attention", "multi_head_attention"]
Mode = Literal["forward", "backward", "forward_backward"]
DType = Literal["float64", "float32", "float16", "bfloat16", "float8_e4m3fn"]
Alignment = Literal["top_left", "bottom_right"]
KVCache = Literal["dense", "paged", "latent"]
KVDType = Literal["int8", "float8_e4m3fn"]
Strides = Literal["contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"]
InputsLayout = Literal["bhsd", "bshd"]
InputFamily = Literal[
    "normal",
    "needle",
    "retrieval",
    "outlier",
    "large_logits",
    "negative_logits",
    "constant",
    "ties",
    "tiny",
    "huge",
]

CHOICES: dict[str, tuple[str, ...]] = {
    "operator": get_args(Operator),
    "mode": get_args(Mode),
    "dtype": get_args(DType),
    "mask": MASK_KINDS,
    "alignment": get_args(Alignment),
    "score_mod": SCORE_MODS,
    "kv_cache": get_args(KVCache),
    "strides": get_args(Strides),
    "inputs_layout": get_args(InputsLayout),
    "kv_dtype": ("none", *get_args(KVDType)),
}
INPUT_FAMILIES: tuple[str, ...] = get_args(InputFamily)
FILE_FIELDS: tuple[str, ...] = ("inputs", "mask_file", "mask_blocks", "bias_file")
"""Fields that may name a file."""

LARGEST = 2**40
"""The largest value of any size, so that costs, products of several sizes, still fit into a float."""
MAY_BE_ZERO: tuple[str, ...] = ("batch", "seqlen_q", "seqlen_kv")
"""Sizes that may be 0: the output is then empty or, without keys, 0."""
DTYPE_BYTES: dict[str, int] = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}

FOLLOWS: dict[str, str] = {"heads_kv": "heads_q", "seqlen_kv": "seqlen_q", "head_dim_v": "head_dim"}
"""Fields whose default is the value of another."""
