"""Calls like an earlier one are answered without being described again."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from attnbench.cases.case import make_case
from attnbench.interception.described import spec
from attnbench.put_back import known
from attnbench.put_back.chosen import chosen
from attnbench.put_back.known import KnownCalls
from attnbench.put_back.ready import ReadyCall
from attnbench.put_back.use import Used

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case
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


@torch.no_grad()
def test_a_call_dropped_while_another_is_prepared_leaves_the_file_that_both_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread's last reference may go at any time."""
    implementation = chosen("naive/torch", None)
    made = KnownCalls(implementation)
    mask = torch.randn(6, 6)
    q = torch.randn(1, 2, 6, 8)

    def dropping(**fields: Any) -> Case:
        made._known.clear()
        made._by_mask.clear()
        gc.collect()
        return make_case(**fields)

    with Used(implementation, made) as used:
        nn.functional.scaled_dot_product_attention(q, q, q, mask)
        monkeypatch.setattr(known, "make_case", dropping)
        nn.functional.scaled_dot_product_attention(2 * q[..., :4], q[..., :4], q[..., :4], mask)
    (kept,) = made._known.values()
    assert used.calls == 2
    assert isinstance(kept.answer, ReadyCall)
    assert kept.answer.case.bias_file is not None
    assert Path(kept.answer.case.bias_file).exists()
    made.close()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@torch.no_grad()
def test_tensors_without_shape_or_values_are_left_to_the_model() -> None:
    nested = torch.nested.nested_tensor([torch.randn(2, 5, 8), torch.randn(2, 7, 8)])
    meta, mask = torch.randn(1, 2, 6, 8, device="meta"), torch.ones(6, 6, dtype=torch.bool, device="meta")
    implementation = chosen("naive/torch", None)
    with Used(implementation) as used:
        for _ in range(2):
            assert nn.functional.scaled_dot_product_attention(nested, nested, nested).is_nested
            assert nn.functional.scaled_dot_product_attention(meta, meta, meta, mask).is_meta
    assert used.calls == 0
    assert sum(used.fallbacks.values()) == 4
