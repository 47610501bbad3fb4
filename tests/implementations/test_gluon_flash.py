"""``gluon/flash`` without a GPU: its source runs on a model of one; and its refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from attnbench import make_case
from tests.implementations.conftest import implementation
from tests.implementations.gluon_model import FaultError, Machine, attend

USUAL: dict[str, Any] = {
    "rows": 16, "block_n": 16, "parts": 2, "stages": 2, "programs": None, "overlap": True, "turns": False,
    "apart": True, "specialised": True,
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "overlap": {},
    "persistent": {"programs": 2},
    "turns": {"programs": 2, "turns": True},
    "three-stages": {"programs": 2, "stages": 3, "apart": False, "turns": True},
    "three-consumers": {"programs": 2, "parts": 3, "turns": True},
    "wide-blocks": {"block_n": 32},
    "in-turn": {"overlap": False, "programs": 2},
    "one-group": {"specialised": False, "parts": 1, "rows": 32},
    "plain": {"specialised": False, "parts": 1, "rows": 32, "overlap": False, "apart": False},
}
# batch, heads_q, heads_kv, seqlen_q, seqlen_kv, causal, offset
PROBLEMS: dict[str, tuple[int, int, int, int, int, bool, int]] = {
    "one-key": (1, 1, 1, 1, 1, False, 0),
    "one-block": (1, 2, 1, 16, 16, False, 0),
    "two-blocks": (1, 2, 1, 33, 32, False, 0),
    "many-blocks": (2, 2, 1, 100, 131, False, 0),
    "causal": (1, 4, 2, 100, 100, True, 0),
    "causal-ragged-corner": (1, 2, 1, 37, 131, True, 94),
    "rows-without-keys": (1, 2, 1, 131, 37, True, -94),
    "top-left-more-queries": (1, 2, 2, 131, 37, True, 0),
    "no-row-has-a-key": (1, 1, 1, 40, 20, True, -50),
}


def answer(q: Any, k: Any, v: Any, causal: bool, offset: int, scale: float) -> tuple[Any, Any]:
    k, v = (x.double().repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = q.double() @ k.transpose(-1, -2) * scale
    if causal:
        keys, rows = torch.arange(k.shape[2]), torch.arange(q.shape[2])
        scores = scores.masked_fill(keys > rows[:, None] + offset, -math.inf)
    return scores.softmax(-1).nan_to_num(0.0) @ v, scores.logsumexp(-1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_on_the_model_every_way_is_right_whoever_is_first(way: str, problem: str) -> None:
    batch, heads_q, heads_kv, seqlen_q, seqlen_kv, causal, offset = PROBLEMS[problem]
    torch.manual_seed(1)
    q, k, v = (
        torch.randn(batch, heads, seqlen, 16)
        for heads, seqlen in ((heads_q, seqlen_q), (heads_kv, seqlen_kv), (heads_kv, seqlen_kv))
    )
    expected, expected_lse = answer(q, k, v, causal, offset, 0.3)
    for seed in range(3):
        out, lse = attend(q, k, v, seed=100 * seed, causal=causal, offset=offset, scale=0.3, **USUAL | WAYS[way])
        torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(lse.double(), expected_lse, atol=1e-5, rtol=0)


def test_the_model_tells_a_deadlock() -> None:
    machine = Machine(0)
    with pytest.raises(FaultError, match="wait for each other"):
        machine.until(lambda: False)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"head_dim": 80}, "heads of 64 or 128 dims, not 80"),
        ({"head_dim": 256}, "not 256"),
        ({"head_dim": 128}, None),
    ],
)
def test_it_refuses_head_dims_that_fill_no_tile(case: dict[str, Any], reason: str | None) -> None:
    one = implementation("gluon_flash", "gluon/flash")
    assert one.supports_hook is not None
    said = one.supports_hook(make_case(seqlen_q=64, dtype="bfloat16", **case), "cpu")
    assert said is None if reason is None else reason in str(said)


@pytest.mark.parametrize(
    "case",
    [
        {"dtype": "float32"}, {"mode": "backward"}, {"mask": "sliding_window"}, {"score_mod": "softcap"},
        {"head_dim_v": 64}, {"strides": "transposed"}, {"kv_cache": "paged"},
    ],
    ids=str,
)  # fmt: skip
def test_what_it_does_not_declare_is_refused(case: dict[str, Any]) -> None:
    said = implementation("gluon_flash", "gluon/flash").declaration
    usual: dict[str, Any] = {"seqlen_q": 64, "head_dim": 128, "dtype": "bfloat16"}
    assert said.refuses(make_case(**usual), "cuda") is None
    assert said.refuses(make_case(**usual | case), "cuda")
