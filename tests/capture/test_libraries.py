"""FlexAttention is captured however a program refers to it; other libraries' functions are reported."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from attnbench.interception import intercept
from attnbench.interception.hooks import libraries
from tests.capture.seen import see

GENERATOR = torch.Generator().manual_seed(0)
Q, K, V = (torch.randn(2, heads, 128, 16, generator=GENERATOR) for heads in (4, 2, 2))


def causal(b: Any, h: Any, i: Any, j: Any) -> Any:
    return i >= j


def shifted(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    return score + j


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_compiled_or_not() -> None:
    mask = create_block_mask(causal, None, None, 128, 128, device="cpu")
    compiled = torch.compile(flex_attention, backend="eager")
    for function in (flex_attention, compiled):
        seen = see(lambda function=function: function(Q, K, V, block_mask=mask, enable_gqa=True))  # type: ignore[misc]
        fields = seen.only.fields()
        assert (fields["mask"], fields["heads_q"], fields["heads_kv"], fields["scale"]) == ("causal", 4, 2, 0.25)
        assert seen.calls[0].api == "flex_attention"
    told = see(lambda: flex_attention(Q, Q, Q, shifted)).unmatched
    assert told == [("torch.nn.attention.flex_attention.flex_attention", "it has score_mod")]


def test_a_function_of_another_library_is_told_and_gets_its_code_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool = True, *, scale: float = 2.0) -> object:
        return scale * q.shape[1] + torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal).shape[0]

    code = kernel.__code__
    kernel.__globals__["torch"] = torch
    library = types.ModuleType("flash_attn_interface")
    library.flash_attn_func = kernel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn_interface", library)
    told: list[tuple[str, str]] = []
    with intercept(lambda call: pytest.fail("its own calls are not looked at"), lambda *one: told.append(one)):
        assert kernel(Q, Q, Q) == 10.0
        assert kernel(Q, Q, Q, False, scale=1.0) == 6.0
    name = "flash_attn_interface.flash_attn_func"
    assert told == [(name, f"calls of {name} are not followed")] * 2
    assert kernel.__code__ is code
    assert kernel(Q, Q, Q) == 10.0
    assert libraries._EXCHANGED == {}
