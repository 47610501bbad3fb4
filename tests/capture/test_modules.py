"""Modules of torch and of a user: every call is captured with the name of the calling module."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tests.capture.seen import see

X = torch.randn(2, 10, 32, generator=torch.Generator().manual_seed(0))
PADDING = torch.arange(10) >= torch.tensor([10, 7])[:, None]


class Attention(nn.Module):
    """Causal self-attention of a GPT, by torch's function or in plain torch."""

    def __init__(self, *, by_hand: bool) -> None:
        super().__init__()
        self.by_hand = by_hand
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.view(2, 10, 4, 8).transpose(1, 2) for t in self.qkv(x).split(32, dim=2))
        if self.by_hand:
            scores = (q @ k.transpose(-2, -1)) * (1 / math.sqrt(8))
            scores = scores.masked_fill(torch.ones(10, 10).tril() == 0, -math.inf)
            y = scores.softmax(dim=-1) @ v
        else:
            y = scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(y.transpose(1, 2).reshape(2, 10, 32))
        return out


class GPT(nn.Module):
    """Three blocks."""

    def __init__(self, *, by_hand: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(32), "attention": Attention(by_hand=by_hand), "mlp": nn.Linear(32, 32)})
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            x = x + block["attention"](block["norm"](x))
            x = x + block["mlp"](x)
        return x


@pytest.mark.parametrize(("by_hand", "api"), [(False, "sdpa"), (True, "matmul")])
def test_a_hand_written_gpt(by_hand: bool, api: str) -> None:
    model = GPT(by_hand=by_hand)
    seen = see(lambda: model(X))
    assert seen.unmatched == []
    assert [call.layer for call in seen.calls] == [f"blocks.{n}.attention" for n in range(3)]
    assert {call.api for call in seen.calls} == {api}
    for spec in seen.specs:
        assert (spec.mask.mask, spec.heads_q, spec.head_dim) == ("causal", 4, 8)
        assert spec.scale == pytest.approx(1 / math.sqrt(8), rel=1e-15)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("padding", [None, PADDING])
@pytest.mark.parametrize("training", [False, True])
def test_a_transformer_encoder(training: bool, padding: Tensor | None) -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=padding is not None).train(training)
    with torch.set_grad_enabled(training):
        seen = see(lambda: encoder(X, src_key_padding_mask=padding)[:, :7])
    assert seen.unmatched == []
    assert [call.layer for call in seen.calls] == ["layers.0.self_attn", "layers.1.self_attn"]
    for call, spec in zip(seen.calls, seen.specs, strict=True):
        assert (spec.batch, spec.heads_q, spec.seqlen_q, spec.head_dim) == (2, 4, 10, 8)
        assert spec.mask.mask == ("none" if padding is None else "key_padding")
        assert spec.mask.kv_lengths == (None if padding is None else (10, 7))
        assert call.needs_gradients is training


@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_with_and_without_its_weights(need_weights: bool) -> None:
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    spec = see(lambda: attention(X, X, X, key_padding_mask=PADDING, need_weights=need_weights)[0]).only
    assert (spec.batch, spec.heads_q, spec.mask.mask, spec.mask.kv_lengths) == (2, 4, "key_padding", (10, 7))


def test_a_module_that_is_compiled_keeps_its_names() -> None:
    model = torch.compile(GPT(by_hand=False), backend="eager")
    assert [call.layer for call in see(lambda: model(X)).calls] == [f"blocks.{n}.attention" for n in range(3)]
