"""Each implementation that runs on a CPU, called directly, on everything that it declares, against the definition."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from attnbench import Case, Implementation, make_case
from attnbench.mutants.mutant import Mutant
from attnbench.mutants.trial import trial
from tests.implementations.conftest import (
    answer_of,
    disagreement,
    implementation,
    inputs_of,
    operands_of,
    results_of,
)
from tests.implementations.definition import attention_by_definition

# Those left out have their own tests (multi-head attention, Triton's interpreter, naive/torch-compile), or run on
# CUDA only.
IMPLEMENTATIONS = [
    implementation("naive_numpy", "naive/numpy"),
    implementation("naive_torch", "naive/torch"),
    implementation("chunked_torch", "chunked/torch"),
    implementation("numba_flash", "numba/flash"),
    implementation("pytorch.sdpa", "torch/sdpa"),
    implementation("pytorch.sdpa", "torch/sdpa-math"),
    implementation("pytorch.sdpa", "torch/sdpa-flash"),
    implementation("pytorch.flex", "torch/flex"),
]
OF_PACKS_ALONE = implementation("pytorch.sdpa_each", "torch/sdpa-each")
NAMES = [one.declaration.name for one in IMPLEMENTATIONS]

MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "causal": {"mask": "causal"},
    "sliding_window": {"mask": "sliding_window", "window_left": 20, "window_right": 0},
    "sliding_window_ahead": {"mask": "sliding_window", "window_left": 9, "window_right": 5},
    "prefix_lm": {"mask": "prefix_lm", "prefix_len": 30},
    "document": {"mask": "document", "document_lengths": (1, 29, 40)},
    "document_causal": {"mask": "document", "document_lengths": (1, 29, 40), "document_causal": True},
    "key_padding": {"mask": "key_padding", "kv_lengths": (0, 67)},
    "left_padding": {"mask": "left_padding", "kv_starts": (70, 5)},
    "tree": {"mask": "tree", "tree_parents": (-1, 0, 0, 1, 1, -1, 5, 6, 2)},
}
INTERSECTIONS: list[dict[str, Any]] = [
    {"mask": "causal & key_padding", "kv_lengths": (33, 67)},
    {"mask": "causal & key_padding", "kv_lengths": (33, 67), "score_mod": "relative_bias"},
    {"mask": "causal & left_padding", "kv_starts": (0, 67), "seqlen_kv": 131, "alignment": "bottom_right"},
    {"mask": "key_padding & left_padding", "kv_lengths": (67, 9), "kv_starts": (1, 10)},
    {"mask": "causal & document", "document_lengths": (1, 29, 40)},
    {"mask": "tree & left_padding", "kv_starts": (3, 66), "tree_parents": (-1, 0, 0, 1, 1, -1, 5, 6, 2)},
    {"mask": "tree & key_padding", "kv_lengths": (64, 70), "tree_parents": (-1, 0, 0, 1, 1, -1, 5, 6, 2)},
    {"mask": "sliding_window & document", "window_left": 9, "window_right": 5, "document_lengths": (1, 29, 40)},
    {
        "mask": "sliding_window & prefix_lm & document & key_padding",
        "window_left": 30,
        "window_right": 25,
        "prefix_len": 10,
        "document_lengths": (41, 29),
        "kv_lengths": (0, 60),
    },
]
TENSORS: list[dict[str, Any]] = [
    {"mask": "tensor", "mask_file": "random:1"},
    {"mask": "tensor", "mask_file": "random:1", "dtype": "bfloat16", "seqlen_kv": 131},
    {"mask": "tensor", "kv_cache": "paged", "page_size": 16},
    {"mask": "causal & tensor", "mask_file": "random:2", "score_mod": "softcap", "softcap": 1.5},
    {"score_mod": "bias", "bias_file": "random:1"},
    {"score_mod": "bias", "bias_file": "random:2", "seqlen_kv": 131, "dtype": "float16"},
    {"score_mod": "bias", "mask": "tensor", "dtype": "float64"},
]
# Along which axes the bias is broadcast, and what else is added to the scores.
BIAS_GRADIENTS: list[dict[str, Any]] = [
    {"score_mod": "bias", "bias_grad": True, "mode": "backward", **fields}
    for fields in (
        {"bias_file": "random:1"},
        {"bias_file": "random:2:batch+heads", "dtype": "bfloat16", "seqlen_kv": 131},
        {"bias_file": "random:3:queries", "mask": "causal & key_padding", "kv_lengths": (33, 67), "dtype": "float64"},
        {"bias_file": "random:4:heads+keys", "mask": "tensor", "score_mod": "alibi & bias"},
        {"bias_file": "random:5:batch", "score_mod": "softcap & bias & sink", "softcap": 1.5, "mask": "causal"},
    )
]
DROPPED: list[dict[str, Any]] = [
    {"dropout": 0.25},
    {"dropout": 0.6, "mask": "causal", "dtype": "bfloat16", "seqlen_kv": 131, "alignment": "bottom_right"},
    {"dropout": 0.1, "mask": "key_padding", "kv_lengths": (0, 67), "score_mod": "alibi", "dtype": "float64"},
    {"dropout": 0.5, "score_mod": "bias", "bias_grad": True, "bias_file": "random:2:heads", "strides": "transposed"},
    {"dropout": 0.3, "score_mod": "softcap & sink", "softcap": 1.5, "mode": "backward"},
]
BLOCKS: list[dict[str, Any]] = [
    {"mask": "block_sparse", "mask_block_size": 16, "mask_blocks": "random:40%:1"},
    {"mask": "block_sparse", "mask_block_size": 16, "mask_blocks": "list:0+2+4//1+4/0/0+1+2+3+4", "dtype": "bfloat16"},
    {"mask": "causal & block_sparse", "seqlen_q": 300, "mask_blocks": "random:50%:1", "score_mod": "alibi"},
    {"mask": "block_sparse & key_padding", "seqlen_q": 300, "seqlen_kv": 450, "mask_blocks": "local:1:1"},
    {"mask": "block_sparse", "mask_block_size": 8, "mask_blocks": "random:20%:2", "seqlen_q": 300, "dtype": "float64"},
    {"mask": "block_sparse", "mask_blocks": "local:1:2", "seqlen_q": 9, "seqlen_kv": 1200, "alignment": "bottom_right"},
]
LATENTS: list[dict[str, Any]] = [
    {"kv_cache": "latent", "heads_kv": 1, "head_dim": 40, "head_dim_v": 32, "scale": 0.3, **fields}
    for fields in ({}, {"seqlen_q": 2, "seqlen_kv": 600}, {"mask": "causal", "dtype": "bfloat16"}, {"heads_kv": 2})
]
PACK = {"mask": "ragged", "batch": 1, "seqlen_q": 85, "seqlen_kv": 475, "requests": "q33_3q1s70_q40s65_5q1s19_q1_q3s71"}
RAGGED: list[dict[str, Any]] = [
    PACK,
    {**PACK, "heads_q": 5, "heads_kv": 1, "head_dim_v": 40, "score_mod": "softcap", "softcap": 1.5},
    {**PACK, "score_mod": "sink"},
    {**PACK, "strides": "sliced"},
    {**PACK, "dtype": "bfloat16"},
    {**PACK, "seqlen_q": 9, "seqlen_kv": 405, "requests": "9q1s45"},
    {**PACK, "kv_cache": "paged"},
    {**PACK, "kv_cache": "paged", "page_size": 7, "dtype": "bfloat16", "head_dim_v": 33},
    {**PACK, "mask": "sliding_window & ragged", "window_left": 21},
    {**PACK, "mask": "sliding_window & ragged", "window_left": 0, "kv_cache": "paged", "score_mod": "sink"},
    {**PACK, "mask": "sliding_window & ragged", "window_left": 66, "dtype": "float64", "strides": "transposed"},
]
SCORE_MODS: dict[str, dict[str, Any]] = {
    "none": {},
    "softcap": {"score_mod": "softcap", "softcap": 1.5},
    "alibi": {"score_mod": "alibi"},
    "relative_bias": {"score_mod": "relative_bias"},
    "sink": {"score_mod": "sink"},
}
COMBINED: list[dict[str, Any]] = [
    {"score_mod": "softcap & alibi", "softcap": 1.5, "mask": "causal"},
    {"score_mod": "softcap & bias", "softcap": 1.5, "mode": "forward"},
    {"score_mod": "alibi & relative_bias & sink"},
    {"score_mod": "softcap & sink", "softcap": 1.5},
    {"score_mod": "alibi & sink"},
    {"score_mod": "relative_bias & sink"},
    {"score_mod": "softcap & alibi", "softcap": 1.5, "mode": "forward"},
]
EMPTY: list[dict[str, Any]] = [
    {"batch": 0},
    {"seqlen_q": 5, "seqlen_kv": 0},
    {"seqlen_q": 0, "seqlen_kv": 7, "mask": "causal & key_padding", "kv_lengths": (0, 7)},
    {"mask": "document", "document_lengths": (0, 5, 0, 65, 0)},
]
# 70 and 131 are not multiples of any block size, and larger than all of them.
ON_DIAGONAL = [MASKS["causal"], MASKS["sliding_window_ahead"], MASKS["prefix_lm"], SCORE_MODS["alibi"]]
LENGTHS = [{"seqlen_q": 70, "seqlen_kv": 131}, {"seqlen_q": 131, "seqlen_kv": 70}]
ALIGNMENTS = [{"alignment": "top_left"}, {"alignment": "bottom_right"}]
SHAPES: list[dict[str, Any]] = [
    {"heads_kv": 4},
    {"heads_kv": 1},
    {"heads_q": 1, "heads_kv": 1, "batch": 1},
    {"head_dim_v": 40},
    {"head_dim": 33, "head_dim_v": 7},
    {"seqlen_q": 1, "seqlen_kv": 1},
    {"seqlen_q": 1, "seqlen_kv": 131, "mask": "causal", "alignment": "bottom_right"},
    {"seqlen_q": 65, "seqlen_kv": 64},
    {"seqlen_q": 9, "seqlen_kv": 131, "mask": "tree", "alignment": "bottom_right"},
    {"scale": 0.7},
]
DTYPES = [{"dtype": dtype} for dtype in ("float64", "float16", "bfloat16", "float8_e4m3fn")]
STRIDES = [{"strides": strides} for strides in ("transposed", "qkv_slice", "sliced", "expanded_kv", "summed")]
# Few queries are decoding, 70 are not; rows of 24 and 33 numbers do not fill registers, those of 64 do.
QUANTISED: list[dict[str, Any]] = [
    {"seqlen_kv": 131, **fields, **stored}
    for stored in ({"kv_dtype": "int8"}, {"kv_dtype": "float8_e4m3fn"})
    for fields in (
        {},
        {"dtype": "bfloat16"},
        {"dtype": "float64", "seqlen_q": 3, "heads_kv": 1, **MASKS["causal"], "alignment": "bottom_right"},
        {"dtype": "float16", "seqlen_q": 1, "head_dim_v": 40},
        {"seqlen_q": 1, "seqlen_kv": 1100, "heads_q": 14, "heads_kv": 2, "head_dim": 64, **SCORE_MODS["softcap"]},
        {"seqlen_q": 2, "heads_kv": 4, "head_dim": 33, "head_dim_v": 128, **MASKS["key_padding"]},
        {"seqlen_q": 5, "heads_kv": 2, "head_dim": 128, "dtype": "bfloat16", **MASKS["causal"], **SCORE_MODS["alibi"]},
        {"seqlen_q": 1, "head_dim": 128, "head_dim_v": 16, **SCORE_MODS["sink"]},
    )
]
PAGES = [{"kv_cache": "paged", "page_size": size} for size in (16, 131)]
MODES = [{"mode": mode} for mode in ("forward", "backward")]

DIFFERENCES: list[dict[str, Any]] = [
    *({**mask, **score_mod} for mask, score_mod in itertools.product(MASKS.values(), SCORE_MODS.values())),
    *({**lengths, **mask, **how} for lengths, mask, how in itertools.product(LENGTHS, ON_DIAGONAL, ALIGNMENTS)),
    *INTERSECTIONS,
    *TENSORS,
    *BIAS_GRADIENTS,
    *BLOCKS,
    *LATENTS,
    *QUANTISED,
    *RAGGED,
    *COMBINED,
    *SHAPES,
    *({**MASKS["causal"], **dtype, **score_mod} for dtype, score_mod in itertools.product(DTYPES, SCORE_MODS.values())),
    *({**MASKS["causal"], **strides} for strides in STRIDES),
    *({**MASKS["key_padding"], "seqlen_kv": 131, **pages, **dtype} for pages in PAGES for dtype in ({}, *DTYPES)),
    *({**MASKS["causal"], **mode} for mode in MODES),
]


def case_of(one: Implementation, difference: dict[str, Any]) -> Case | None:
    """Return a case that differs from the usual one, with gradients if declared; ``None`` if it is not declared."""
    usual = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 70, "head_dim": 24, "mode": "forward_backward"}
    for mode in ("forward_backward", "forward"):
        if mode == "forward" and difference.get("strides") == "summed":
            continue  # it is about gradients
        fields = {**usual, "mode": mode, **difference}
        if (
            "kv_dtype" in fields
            or fields.get("kv_cache") in ("paged", "latent")
            or fields.get("dtype") == "float8_e4m3fn"
        ):
            fields["mode"] = "forward"
        case = make_case(**fields)
        hook = one.supports_hook
        if one.declaration.refuses(case, "cpu") is None and (hook is None or hook(case, "cpu") is None):
            return case
    return None


CASES = [
    pytest.param(one, case, id=f"{one.declaration.name}-{case.label().replace(' ', '-')}-{case.case_id[:4]}")
    for one in (*IMPLEMENTATIONS, OF_PACKS_ALONE)
    for case in dict.fromkeys(case_of(one, difference) for difference in DIFFERENCES)
    if case is not None
]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make chunks smaller than the cases, so that there are several."""
    monkeypatch.setattr("attnbench.implementations.chunked_torch.QUERY_CHUNK", 40)
    monkeypatch.setattr("attnbench.implementations.chunked_torch.SMALLEST_KEY_CHUNK", 30)


pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),  # in torch itself
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
]


@pytest.fixture(autouse=True)
def _uncompiled() -> Any:
    """Disable torch's compiler; ``test_compiled.py`` covers compiled code."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@pytest.mark.parametrize(("one", "case"), CASES)
def test_it_agrees_with_the_definition(one: Implementation, case: Case) -> None:
    assert disagreement(case, results_of(one, case), answer_of(case)) is None


@pytest.mark.parametrize("fields", DROPPED, ids=str)
@pytest.mark.parametrize(
    "one", [one for one in IMPLEMENTATIONS if one.declaration.dropout], ids=lambda one: one.declaration.name
)
def test_with_what_it_says_it_kept_it_agrees_with_the_definition(one: Implementation, fields: dict[str, Any]) -> None:
    case = case_of(one, fields)
    if case is None:
        pytest.skip("it refuses, with a sentence")
    found = results_of(one, case)
    kept = found.pop("kept") != 0
    answer = attention_by_definition(case, inputs_of(case), kept)
    assert disagreement(case, found, answer) is None
    assert abs(kept.mean() - (1 - (case.dropout or 0))) < 0.05


@pytest.mark.parametrize("fields", EMPTY, ids=str)
@pytest.mark.parametrize("one", IMPLEMENTATIONS, ids=NAMES)
def test_what_is_empty_has_an_answer(one: Implementation, fields: dict[str, Any]) -> None:
    case = case_of(one, fields)
    if case is None:
        pytest.skip("it refuses, with a sentence")
    assert trial(case, [Mutant("peer", "", None, one)]) == {"peer": None}


@pytest.mark.parametrize("one", IMPLEMENTATIONS, ids=NAMES)
def test_every_declared_value_is_tried(one: Implementation) -> None:
    tried = [parameters.values[1] for parameters in CASES if parameters.values[0] is one]
    said = one.declaration
    for noun, declared in (
        ("dtype", said.dtypes),
        ("mask", said.masks),
        ("score_mod", said.score_mods),
        ("strides", said.strides),
        ("kv_cache", said.kv_caches),
        ("alignment", said.alignments),
        ("kv_dtype", said.kv_dtypes),
    ):
        assert {getattr(case, noun) or "none" for case in tried} >= set(declared), noun


@pytest.mark.parametrize("one", IMPLEMENTATIONS, ids=NAMES)
def test_scores_far_beyond_the_range_of_exp_do_not_overflow(one: Implementation) -> None:
    case = make_case(batch=1, heads_q=2, seqlen_q=70, head_dim=16, mask="causal")
    operands = operands_of(case, framework=one.declaration.framework)
    operands.q[...] = 40
    operands.k[...] = 40  # every score is 40 * 40 * 4, without any rounding: all weights are equal
    assert one.prepare_hook is not None
    result = one.call(operands.q, operands.k, operands.v, case, one.prepare_hook(case, operands))
    out = np.asarray(result[0] if one.declaration.returns_lse else result)
    means = np.cumsum(np.asarray(operands.v, np.float64), axis=2) / np.arange(1, 71)[:, None]
    np.testing.assert_allclose(out, means, atol=1e-5)


@pytest.mark.parametrize("one", IMPLEMENTATIONS, ids=NAMES)
def test_a_plan_follows_inputs_that_are_rewritten_in_place(one: Implementation) -> None:
    case = make_case(batch=1, heads_q=2, seqlen_q=70, head_dim=24, mask="causal")
    operands = operands_of(case, framework=one.declaration.framework)
    assert one.prepare_hook is not None
    plan = one.prepare_hook(case, operands)
    before = one.call(operands.q, operands.k, operands.v, case, plan)
    operands.v[...] *= -2
    after = one.call(operands.q, operands.k, operands.v, case, plan)
    if one.declaration.returns_lse:
        before, after = before[0], after[0]
    np.testing.assert_allclose(np.asarray(after), -2 * np.asarray(before), rtol=1e-6)
