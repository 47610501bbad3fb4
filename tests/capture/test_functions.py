"""Attention in plain torch: ``scaled_dot_product_attention``, and products around a softmax."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from attnbench import UsageError
from attnbench.interception import intercept
from tests.capture.seen import see

GENERATOR = torch.Generator().manual_seed(0)
Q, K, V = (torch.randn(2, 4, 12, 16, generator=GENERATOR) for _ in range(3))
BIAS = torch.randn(1, 4, 12, 12, generator=GENERATOR)
CAUSAL = torch.ones(12, 12).tril()


def as_one_batch(x: Tensor) -> Tensor:
    """Merge batch and heads into one axis."""
    return x.reshape(8, *x.shape[2:])


def tokens_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def bart() -> Tensor:
    """Attention with heads merged into the batch, except for the mask."""
    scores = torch.bmm(as_one_batch(Q) / 4, as_one_batch(K).transpose(1, 2)).view(2, 4, 12, 12) + (1 - CAUSAL) * -1e9
    weights = functional.softmax(scores.view(8, 12, 12), dim=-1)
    return torch.bmm(functional.dropout(weights, p=0.1, training=False), as_one_batch(V))


def in_place() -> Tensor:
    scores = Q @ K.mT
    scores /= 4
    scores += BIAS
    scores.masked_fill_(CAUSAL == 0, -math.inf)
    return scores.softmax(-1) @ V


def with_einsum() -> Tensor:
    scores = torch.einsum("bqhd,bkhd->bhqk", tokens_first(Q), tokens_first(K)) / math.sqrt(16)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), tokens_first(V))


HAND_WRITTEN: list[tuple[Callable[[], Tensor], dict[str, object]]] = [
    (lambda: ((Q @ K.mT) * 0.25).masked_fill(CAUSAL == 0, -math.inf).softmax(-1) @ V, {"mask": "causal"}),
    (lambda: torch.softmax(torch.where(CAUSAL.bool(), 0.25 * (Q @ K.mT), -1e9), -1) @ V, {"mask": "causal"}),
    (lambda: nn.Softmax(dim=-1)(torch.matmul(Q, K.mT) * torch.tensor(0.25) + BIAS) @ V, {"score_mod": "bias"}),
    (lambda: nn.Dropout(0.5).eval()((Q @ K.mT / 2 - BIAS).softmax(3)) @ V, {"score_mod": "bias", "scale": 0.5}),
    (
        lambda: torch.softmax(30 * torch.tanh(Q @ K.mT / 4 / 30) + (1 - CAUSAL) * -1e9, -1) @ V,
        {"mask": "causal", "score_mod": "softcap", "softcap": 30.0},
    ),
    (lambda: (Q @ K.mT / 4).softmax(-1, dtype=torch.float64).float() @ V, {}),
    (lambda: (Q @ K[:, :1].mT / 4).softmax(-1) @ V[:, :1], {"heads_kv": 1}),
    (lambda: (Q.view(2, 2, 2, 12, 16) @ K[:, :2, None].mT / 4).softmax(-1) @ V[:, :2, None], {"heads_kv": 2}),
    (lambda: (Q @ K.repeat(1, 1, 2, 1).mT / 4).softmax(-1) @ V.repeat(1, 1, 2, 1), {"seqlen_kv": 24}),
    (lambda: (Q[0, 0] @ K[0, 0].T / 4).softmax(-1) @ V[0, 0], {"batch": 1, "heads_q": 1, "heads_kv": 1}),
    (bart, {"mask": "causal", "scale": 1.0}),
    (in_place, {"mask": "causal", "score_mod": "bias"}),
    (with_einsum, {}),
]
USUAL: dict[str, object] = {
    "batch": 2, "heads_q": 4, "heads_kv": 4, "seqlen_q": 12, "seqlen_kv": 12, "head_dim": 16, "head_dim_v": 16,
    "dtype": "float32", "scale": 0.25, "mask": "none", "score_mod": "none",
}  # fmt: skip


@pytest.mark.parametrize(("compute", "fields"), HAND_WRITTEN)
def test_a_softmax_between_two_products_is_attention(compute: Callable[[], Tensor], fields: dict[str, object]) -> None:
    seen = see(compute)
    assert seen.only.fields() == USUAL | fields
    assert [call.api for call in seen.calls] == ["matmul"]
    assert seen.calls[0].spent_ns > 0


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda: (Q @ K.mT * torch.rand(4, 1, 1, generator=GENERATOR)).softmax(-1) @ V, "a tensor instead of a number"),
        (lambda: (Q @ K.mT).relu().softmax(-1) @ V, "relu of scores is not followed"),
        (lambda: (Q @ K.mT).masked_fill(CAUSAL == 0, -5.0).softmax(-1) @ V, "what is hidden becomes -5"),
        (lambda: (Q @ K.mT).softmax(-1).square() @ V, "square of scores is not followed"),
        (lambda: BIAS.softmax(-1) @ V, "no product which could be followed"),
        (lambda: torch.cat([Q @ K.mT, BIAS.expand(2, 4, 12, 12)], -1).softmax(-1) @ V.repeat(1, 1, 2, 1), "no product"),
    ],
)
def test_what_is_not_understood_is_told_with_its_reason(compute: Callable[[], Tensor], reason: str) -> None:
    GENERATOR.manual_seed(1)
    with intercept(lambda call: call.original()):
        pass
    found: list[str] = []
    with intercept(lambda call: call.original(), lambda _, why: found.append(why)):
        compute()
    assert [reason in why for why in found] == [True], found


def test_other_softmaxes_are_no_attention() -> None:
    linear = nn.Linear(16, 5)

    def classify() -> None:
        torch.autograd.backward(torch.softmax(linear(Q), -1).sum())
        (Q @ K.mT).exp() @ V

    seen = see(classify)
    assert (seen.calls, seen.unmatched) == ([], [])


def test_sdpa_is_said_as_it_was_called() -> None:
    assert see(lambda: scaled_dot_product_attention(Q, K, V, is_causal=True, scale=0.5)).only.fields() == (
        USUAL | {"mask": "causal", "scale": 0.5}
    )
    mask = torch.arange(12) < torch.tensor([12, 5])[:, None, None, None]
    padded = see(lambda: scaled_dot_product_attention(Q, K, V, attn_mask=mask)).only.fields()
    assert padded == USUAL | {"mask": "key_padding", "kv_lengths": (12, 5)}
    biased = see(lambda: functional.scaled_dot_product_attention(Q, K, V, BIAS)).only
    assert biased.score_mod == "bias"


def test_the_keys_true_heads_are_told_where_memory_tells_them() -> None:
    k, v = K[:, :2], V[:, :2]
    for again in (
        lambda x: x.repeat_interleave(2, 1),
        lambda x: x[:, :, None].expand(2, 2, 2, 12, 16).reshape(2, 4, 12, 16),
    ):
        seen = see(lambda again=again: scaled_dot_product_attention(Q, again(k), again(v)))  # type: ignore[misc]
        assert seen.only.heads_kv == 2
        assert torch.equal(seen.calls[0].k, k)
    assert see(lambda: scaled_dot_product_attention(Q, k, v, enable_gqa=True)).only.heads_kv == 2
    assert see(lambda: scaled_dot_product_attention(Q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1))).only.heads_kv == 4
    assert see(lambda: scaled_dot_product_attention(Q, k.repeat_interleave(2, 1), V)).only.heads_kv == 4


def test_axes_before_the_heads_are_the_batch() -> None:
    assert see(lambda: scaled_dot_product_attention(Q[0], K[0], V[0])).only.batch == 1
    q, k, v = (x[None] for x in (Q, K, V))
    assert see(lambda: scaled_dot_product_attention(q, k, v, attn_mask=CAUSAL.bool())).only.mask.mask == "causal"
    assert see(lambda: scaled_dot_product_attention(Q[:1], K, V)).only.batch == 2


def test_an_error_of_the_program_stays_its_error() -> None:
    with pytest.raises(RuntimeError, match="Expected size"):
        see(lambda: scaled_dot_product_attention(Q, K[..., :8], V))


def test_the_handlers_answer_is_what_the_program_gets() -> None:
    computes: list[Callable[[], Tensor]] = [
        lambda: scaled_dot_product_attention(Q, K, V), with_einsum, HAND_WRITTEN[7][0], HAND_WRITTEN[9][0], bart
    ]  # fmt: skip
    for compute in computes:
        before = compute()
        with intercept(lambda call: torch.zeros_like(call.original())):
            assert compute().shape == before.shape
            assert not compute().any()
        assert torch.equal(compute(), before)


def test_calls_of_backward_passes_and_of_other_threads_are_seen() -> None:
    q = Q.clone().requires_grad_()

    def recompute() -> None:
        checkpoint(lambda q: scaled_dot_product_attention(q, K, V), q, use_reentrant=False).sum().backward()

    assert len(see(recompute).calls) == 2
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def elsewhere() -> None:
        thread = threading.Thread(target=lambda: encoder(Q[:, 0]))
        thread.start()
        thread.join()

    assert len(see(elsewhere).calls) == 1


def test_compiled_functions_run_uncompiled_and_afterwards_compiled_again() -> None:
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda: scaled_dot_product_attention(Q, K, V), backend=backend)
    compiled()
    with intercept(lambda call: call.original() + 1):
        assert torch.allclose(compiled(), scaled_dot_product_attention(Q, K, V))
    assert len(graphs) == 1
    seen: list[object] = []
    with intercept(lambda call: (seen.append(call), call.original())[1]):  # type: ignore[func-returns-value]
        compiled()
    assert len(seen) == 1
    compiled()
    assert (len(seen), len(graphs)) == (1, 1)


def test_everything_is_as_before_when_the_block_ends() -> None:
    before = nn.Module.__call__, torch.autograd.backward, torch.autograd.grad, torch.backends.mha.get_fastpath_enabled()

    def fail() -> None:
        assert nn.Module.__call__ is not before[0]
        raise KeyError

    with pytest.raises(KeyError):
        see(fail)
    assert before == (
        nn.Module.__call__, torch.autograd.backward, torch.autograd.grad, torch.backends.mha.get_fastpath_enabled()
    )  # fmt: skip


def test_under_autocast_the_dtype_is_that_of_the_computation() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for compute in (lambda: scaled_dot_product_attention(Q, K, V), lambda: (Q @ K.mT / 4).softmax(-1) @ V):
            assert see(compute).only.fields() == USUAL | {"dtype": "bfloat16"}


def test_inference_mode_changes_nothing() -> None:
    with torch.inference_mode():
        mask = torch.ones(12, 12).tril().bool()
        for _ in range(2):
            assert see(lambda: scaled_dot_product_attention(Q, K, V, mask)).only.mask.mask == "causal"


def test_blocks_of_two_threads_do_not_overlap() -> None:
    """Each replaces torch functions and restores what it found; the last to end would restore the other's."""
    before = nn.Module.__call__, torch.autograd.backward
    said: list[str] = []

    def compute() -> None:
        try:
            with intercept(lambda call: call.original()):
                pass
        except UsageError as error:
            said.append(str(error))

    with intercept(lambda call: call.original()):
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
    assert (nn.Module.__call__, torch.autograd.backward) == before
    assert len(said) == 1
    assert "open in another thread" in said[0]
    compute()
    assert len(said) == 1


@pytest.mark.filterwarnings("ignore")  # tracing warns about values that it cannot trace
def test_a_trace_is_the_programs_own() -> None:
    """Tracing would record the block's computation, or its answer as a constant."""
    encoder = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    x = Q[:, 0]
    seen = see(lambda: torch.jit.trace(encoder, (x, x, x), check_trace=False))  # type: ignore[no-untyped-call]  # torch's
    assert (seen.calls, seen.unmatched) == ([], [])
