"""A module that computes attention becomes an implementation, with or without projections."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from attnbench import dense_mask, make_case, module
from attnbench.registry.implementation import DeclarationError
from attnbench.worker.call import bind, refusal
from attnbench.worker.tensors import place

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attnbench import Case, Implementation, Operands

EMBED, HEADS = 32, 4


class Core(nn.Module):
    """Without projections."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        scores = q @ k.transpose(-1, -2) * scale
        return (scores if mask is None else scores + mask).softmax(-1) @ v


class Separate(nn.Module):
    """A module with four projections, named as in Llama, which is in training mode by default."""

    def __init__(self, names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")) -> None:
        super().__init__()
        self.num_heads = HEADS
        self.names = names
        self.dropout = nn.Dropout(0.5)
        for name in names:
            self.add_module(name, nn.Linear(EMBED, EMBED))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Any:
        project = [getattr(self, name) for name in self.names]
        q, k, v = (
            p(x).view(*x.shape[:2], HEADS, -1).transpose(1, 2)
            for p, x in zip(project, (query, key, value), strict=False)
        )
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask)
        return self.dropout(project[3](out.transpose(1, 2).flatten(2))), None


class Fused(Separate):
    """A module with one projection for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__(("proj",))
        self.qkv = nn.Linear(EMBED, 3 * EMBED)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Any:
        parts = zip(self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), (query, key, value), strict=True)
        q, k, v = (split(nn.functional.linear(x, w, b)) for w, b, x in parts)
        project: Any = self.proj
        return project(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask).transpose(1, 2).flatten(2))


def split(x: Tensor) -> Tensor:
    """Split heads: (batch, heads, seqlen, dim)."""
    return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)


def case_of(**given: Any) -> Case:
    return make_case(**{"batch": 2, "heads_q": HEADS, "seqlen_q": 12, "head_dim": EMBED // HEADS, "seed": 3} | given)


def output(made: Implementation, case: Case) -> tuple[Tensor, Operands]:
    """Return the implementation's output and operands, as in a worker."""
    assert refusal(made, case, "cpu") is None
    operands = place(case, made.declaration, "cpu")
    call = bind(made, case, operands)
    return call.outputs(call.run())["out"], operands


def expected(case: Case, o: Operands) -> Tensor:
    """Return attention in float64, with projections if the case has them."""
    q, k, v = o.q.double(), o.k.double(), o.v.double()
    if case.operator == "multi_head_attention":
        q, k, v = (split(x @ w.double()) for x, w in ((q, o.w_q), (k, o.w_k), (v, o.w_v)) if w is not None)
    scores = (q @ k.transpose(-1, -2) * case.scale).masked_fill(~torch.from_numpy(dense_mask(case)), -math.inf)
    out = scores.softmax(-1) @ v
    projected: Tensor = out if o.w_o is None else out.transpose(1, 2).flatten(2) @ o.w_o.double()
    return projected


@pytest.mark.parametrize("mask", ["none", "causal", "key_padding"])
@pytest.mark.parametrize(
    "make",
    [Separate, Fused, lambda: nn.MultiheadAttention(EMBED, HEADS, batch_first=True)],
    ids=["4", "fused", "torch"],
)
def test_a_module_with_projections_is_given_the_weights_of_the_case(make: Callable[[], nn.Module], mask: str) -> None:
    made = module(make(), name="mine/attn", masks=["none", "causal", "key_padding"])
    case = case_of(operator="multi_head_attention", mask=mask, kv_lengths=[12, 7] if mask == "key_padding" else None)
    out, operands = output(made, case)
    torch.testing.assert_close(out.double(), expected(case, operands), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", ["none", "causal"])
def test_a_module_without_parameters_is_a_core(mask: str) -> None:
    made = module(Core(), name="mine/core", masks=["none", "causal"])
    case = case_of(mask=mask, scale=0.3)
    out, operands = output(made, case)
    torch.testing.assert_close(out.double(), expected(case, operands), rtol=1e-4, atol=1e-5)
    assert made.declaration.summary == "Without projections."


def test_the_users_module_stays_as_it_is() -> None:
    own = Separate()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    output(module(own, name="mine/attn"), case_of(operator="multi_head_attention"))
    assert own.training
    assert all(parameter.requires_grad for parameter in own.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())


def test_a_function_may_load_what_has_names_of_its_own() -> None:
    names = ("queries", "keys", "values", "last")

    def load(copied: nn.Module, operands: Operands) -> None:
        for name, weight in zip(names, (operands.w_q, operands.w_k, operands.w_v, operands.w_o), strict=True):
            linear: Any = getattr(copied, name)
            assert weight is not None
            linear.weight.copy_(weight.T)
            linear.bias.zero_()

    with pytest.raises(DeclarationError, match=r"its parameter queries\.weight is no projection .* give load="):
        module(Separate(names), name="mine/attn")
    case = case_of(operator="multi_head_attention")
    out, operands = output(module(Separate(names), name="mine/attn", load=load), case)
    torch.testing.assert_close(out.double(), expected(case, operands), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"heads_q": 8, "head_dim": 4}, "the module has 4 heads, the case 8"),
        ({"head_dim": 16}, r"the module's q_proj.weight has shape \(32, 32\), the case needs \(64, 64\)"),
        ({"scale": 0.5}, "its forward takes no scale"),
    ],
)
def test_cases_that_it_cannot_compute_are_refused(given: dict[str, Any], why: str) -> None:
    refused = refusal(module(Separate(), name="mine/a"), case_of(operator="multi_head_attention", **given), "cpu")
    assert refused is not None
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(refused)


class OneInput(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any: ...


class Needy(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, rotary: Tensor) -> Any: ...


class Plain(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any: ...


class Normed(Separate):
    def __init__(self) -> None:
        super().__init__()
        self.q_norm = nn.LayerNorm(EMBED)


@pytest.mark.parametrize(
    ("own", "declared", "why"),
    [
        (OneInput(), {}, r"must take queries, keys and values, which differ here, and takes \(x, mask\)"),
        (Needy(), {}, "its forward needs rotary, which attnbench does not know"),
        (Plain(), {"masks": ["causal"]}, "its forward takes no mask"),
        (Normed(), {}, r"its parameter q_norm\.weight is no projection"),
        (nn.MultiheadAttention(EMBED, HEADS), {}, "its batch_first is false"),
    ],
)
def test_modules_that_cannot_be_called_are_refused(own: nn.Module, declared: dict[str, Any], why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        module(own, name="mine/attn", **declared)
