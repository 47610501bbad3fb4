"""Masks as passed to xformers, and its reasons for refusing, without its CUDA operators."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from attnbench import Case, make_case
from tests.implementations.conftest import ALLOWED, answer_of, implementation, operands_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of xformers, at import

MODULE = importlib.import_module("attnbench.implementations.peers.xformers_attention")
NAMES = ("auto", "cutlass", "flash", "splitk")

GROUPED = {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 21, "head_dim": 8}
ON_DIAGONAL: list[dict[str, Any]] = [
    {"mask": "causal"},
    {"mask": "sliding_window", "window_left": 6, "window_right": 0},
    {"mask": "sliding_window", "window_left": 3, "window_right": 2},
    {"mask": "prefix_lm", "prefix_len": 9},
]
DIFFERENCES: list[dict[str, Any]] = [
    {},
    {"heads_kv": 4},
    *({**mask, **other} for mask in ON_DIAGONAL for other in ({}, {"heads_kv": 4}, {"score_mod": "alibi"})),
    *(
        {**mask, "seqlen_q": q, "seqlen_kv": kv, "alignment": alignment}
        for mask in ON_DIAGONAL
        for q, kv in ((11, 21), (21, 11))
        for alignment in ("top_left", "bottom_right")
    ),
    {"mask": "document", "document_lengths": (1, 13, 7)},
    {"mask": "document", "document_lengths": (1, 13, 7), "document_causal": True},
    {"mask": "key_padding", "kv_lengths": (5, 21)},
    {"mask": "key_padding", "kv_lengths": (5, 21), "score_mod": "relative_bias"},
]


def as_told(case: Case, name: str) -> np.ndarray[Any, Any]:
    """Call it with xformers' operator replaced by the formula in its documentation."""
    one = implementation("peers.xformers_attention", f"xformers/{name}")
    operands = operands_of(case, layout="bshd")
    assert one.prepare_hook is not None
    plan = one.prepare_hook(case, operands)
    q, k, v = MODULE.arranged(operands.q, operands.k, operands.v, case, one_sequence=plan.one_sequence)
    heads = q.shape[2:-1]  # the heads, or the groups and the heads of each
    q, k, v = (x.flatten(2, -2).transpose(1, 2) for x in (q, k, v))
    scores = q * case.scale @ k.transpose(-2, -1)
    if isinstance(plan.bias, torch.Tensor):
        assert plan.bias.shape[1:-2] == heads
        assert plan.bias.stride(-2) % 8 == 0
        scores = scores + plan.bias.flatten(1, -3)
    elif plan.bias is not None:
        scores = scores + plan.bias.materialize(tuple(scores.shape[-2:]))
    out = torch.nan_to_num(scores.softmax(-1)) @ v
    out = out.transpose(1, 2).reshape(case.batch, case.seqlen_q, case.heads_q, case.head_dim_v)
    result: np.ndarray[Any, Any] = out.transpose(1, 2).double().numpy()
    return result


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: "-".join(map(str, difference.values())))
def test_masks_and_groups_mean_to_xformers_what_the_case_says(name: str, difference: dict[str, Any]) -> None:
    case = make_case(**{**GROUPED, **difference})
    wanted = answer_of(case).out
    assert np.abs(as_told(case, name) - wanted).max() <= ALLOWED["float32"] * np.abs(wanted).max()


def test_its_own_class_of_mask_is_used_where_the_operator_takes_it_and_a_tensor_elsewhere() -> None:
    case = make_case(**GROUPED, mask="key_padding", kv_lengths=(5, 21))
    kinds = {}
    for name in NAMES:
        one = implementation("peers.xformers_attention", f"xformers/{name}")
        assert one.prepare_hook is not None
        kinds[name] = type(one.prepare_hook(case, operands_of(case, layout="bshd")).bias).__name__
    padded = "BlockDiagonalPaddedKeysMask"
    assert kinds == {"auto": padded, "cutlass": "Tensor", "flash": padded, "splitk": padded}


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        *((name, difference) for name in NAMES for difference in ({}, {"score_mod": "alibi"}, {"mask": "key_padding"})),
        *((name, {"mode": "backward", "heads_kv": 4}) for name in ("auto", "cutlass", "flash")),
    ],
    ids=str,
)
def test_a_cpu_is_refused_in_the_words_of_xformers(name: str, difference: dict[str, Any]) -> None:
    one = implementation("peers.xformers_attention", f"xformers/{name}")
    assert one.supports_hook is not None
    reason = one.supports_hook(make_case(**{**GROUPED, **difference}), "cpu")
    assert reason is not None
    assert "device=cpu (supported: {'cuda'})" in reason
    assert len(reason) < 300


def test_a_reason_that_all_operators_share_is_told_once() -> None:
    assert MODULE.told({"one": ["too old"], "two": ["too old", "too large"]}) == "too old (one, two)"
    assert MODULE.told({"one": ["too old"], "two": ["too large"]}) == "too old (one); too large (two)"
