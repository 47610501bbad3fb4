"""Calls like an earlier one are answered without being described again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from attnbench.interception.described import spec
from attnbench.put_back import known
from attnbench.put_back.chosen import chosen
from attnbench.put_back.known import KnownCalls
from attnbench.put_back.use import Used

if TYPE_CHECKING:
    import pytest
    from torch import Tensor

    from attnbench.interception import AttentionCall


def test_calls_like_an_earlier_one_are_not_described_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any difference except in the values of Q, K and V is still noticed."""
    described: list[AttentionCall] = []

    def counted(call: AttentionCall) -> object:
        described.append(call)
        return spec.described(call)

    monkeypatch.setattr(known, "described", counted)
    q, mask = torch.randn(1, 4, 24, 8), torch.ones(24, 24, dtype=torch.bool).tril()

    def attention(q: Tensor, **kwargs: Any) -> Tensor:
        expected = nn.functional.scaled_dot_product_attention(q, q, q, **kwargs)
        with used:
            found = [nn.functional.scaled_dot_product_attention(q, q, q, **kwargs) for _ in range(3)]
        for one in found:
            torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)
        return found[-1]

    implementation = chosen("naive/torch", None)
    made = KnownCalls(implementation)
    used = Used(implementation, made)
    attention(q)
    attention(2 * q)
    assert len(described) == 1
    attention(q, is_causal=True)
    attention(q, scale=0.5)
    attention(q.transpose(1, 2).contiguous().transpose(1, 2))
    attention(q, attn_mask=mask)
    attention(q, attn_mask=mask.clone())
    assert len(described) == 5
    mask[-1, 0] = False
    attention(q, attn_mask=mask)
    assert len(described) == 6
    assert attention(q.clone().requires_grad_()).requires_grad
    assert len(described) == 7
    assert not used.fallbacks
    made.close()
