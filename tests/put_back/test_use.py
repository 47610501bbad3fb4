"""A model runs with an implementation in place of its attention; calls that it cannot serve stay with the model."""

from __future__ import annotations

import importlib.util
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import attnbench
from attnbench import UsageError
from attnbench.put_back import known
from attnbench.put_back.ready import PutBackError
from tests.put_back.models import HEADS, KERNEL, LAYERS, WIDTH, Model, tokens

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from attnbench import Case, Implementation, Operands

NAMES = ("numba/flash", "torch/sdpa-flash", "naive/torch", "chunked/torch", "naive/numpy")
needs_onnxruntime = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None,
    reason="the extra peers-cpu is not installed",
)
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def sdpa_of(name: str = "mine/sdpa", **declared: Any) -> Implementation:
    """Return an implementation that calls torch's function."""

    def call(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=case.mask == "causal", scale=case.scale)

    return attnbench.attention(name, **{"masks": ["none", "causal"], "strides": ["contiguous"]} | declared)(call)


@pytest.mark.parametrize("name", [*NAMES, pytest.param("onnxruntime/mha", marks=needs_onnxruntime)])
@pytest.mark.parametrize("causal", [False, True])
def test_the_output_is_the_models_and_calls_are_counted(name: str, causal: bool) -> None:
    model, x = Model(), tokens()
    with torch.no_grad():
        expected = model(x, is_causal=causal)
        with attnbench.use(name) as used:
            found = model(x, is_causal=causal)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert (used.calls, dict(used.fallbacks)) == (LAYERS, {})
    assert str(used) == f"{name} computed 3 of 3 attention calls"


@pytest.mark.parametrize("name", ["numba/flash", "naive/torch", "torch/sdpa-flash"])
def test_gradients_are_the_models(name: str) -> None:
    """numba/flash has a backward pass of its own; torch's autograd differentiates the others."""

    def gradients(model: Model) -> list[Tensor]:
        model.zero_grad()
        model(tokens(), is_causal=True).square().sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    model = Model()
    expected = gradients(model)
    with attnbench.use(name) as used:
        found = gradients(model)
    assert used.calls == LAYERS
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_without_a_backward_pass_it_serves_what_needs_no_gradients() -> None:
    model = Model()
    with attnbench.use(sdpa_of(modes=["forward"])) as used:
        model(tokens())
        with torch.no_grad():
            model(tokens())
    assert used.calls == LAYERS
    ((reason, count),) = used.fallbacks.items()
    assert count == LAYERS
    assert reason.endswith("if no gradients are needed, call the model within torch.no_grad()")


@torch.no_grad()
def test_what_is_not_declared_is_left_to_the_model_and_counted_by_its_reason() -> None:
    model, x = Model(), tokens()
    band = torch.ones(24, 24, dtype=torch.bool).tril().triu(-3)
    with attnbench.use(sdpa_of()) as used:
        torch.testing.assert_close(model(x, attn_mask=band), model(x, attn_mask=band.float().log()), **CLOSE)
        model.double()(x.double())
        torch.testing.assert_close(model(x.double(), attn_mask=band), model(x.double(), attn_mask=band), **CLOSE)
    assert used.calls == 0
    reasons = [reason.partition(" is not")[0] for reason in used.fallbacks]
    assert reasons == ["mask 'sliding_window'", "dtype 'float64'"]
    assert list(used.fallbacks.values()) == [2 * LAYERS, 3 * LAYERS]


def test_dropout_is_left_to_the_model() -> None:
    with attnbench.use("naive/torch") as used:
        Model(dropout=0.5).train()(tokens())
    assert dict(used.fallbacks) == {"it drops probabilities at random": LAYERS}


@torch.no_grad()
@pytest.mark.parametrize("kind", ["key_padding", "tensor", "bias"])
def test_masks_and_biases_are_given_by_their_values(kind: str) -> None:
    """Two of each kind in turn: what was cached for the first must not serve the second."""
    model, x = Model(), tokens()
    generator = torch.Generator().manual_seed(3)
    for turn in range(2):
        mask = torch.arange(24) < torch.tensor([24, 9 + turn])[:, None, None, None]
        if kind == "tensor":
            mask = (torch.rand(1, 1, 24, 24, generator=generator) < 0.5) | torch.eye(24, dtype=torch.bool)
        if kind == "bias":
            mask = torch.randn(1, HEADS, 24, 24, generator=generator)
        expected = model(x, attn_mask=mask)
        with attnbench.use("naive/torch") as used:
            for _ in range(2):
                torch.testing.assert_close(model(x, attn_mask=mask), expected, **CLOSE)
        assert (used.calls, dict(used.fallbacks)) == (2 * LAYERS, {})


@torch.no_grad()
def test_one_block_tells_masks_apart_by_their_values() -> None:
    model, x = Model(), tokens()
    masks = [torch.arange(24) < torch.tensor([24, n])[:, None, None, None] for n in (9, 10, 9)]
    expected = [model(x, attn_mask=mask) for mask in masks]
    with attnbench.use("naive/torch") as used:
        for mask, due in zip(masks, expected, strict=True):
            torch.testing.assert_close(model(x, attn_mask=mask), due, **CLOSE)
    assert used.calls == 3 * LAYERS


@torch.no_grad()
def test_what_is_prepared_is_kept_for_the_calls_that_are_alike() -> None:
    prepared: list[Case] = []
    made = sdpa_of()

    @made.prepare
    def plan(case: Case, operands: Operands) -> None:
        assert operands.q.shape == (2, HEADS, case.seqlen_q, WIDTH // HEADS)
        prepared.append(case)

    model = Model()
    with attnbench.use(made) as used:
        for seqlen in (24, 24, 16, 24):
            model(tokens(seqlen))
    assert [case.seqlen_q for case in prepared] == [24, 16]
    assert used.calls == 4 * LAYERS


@torch.no_grad()
def test_of_many_kinds_of_calls_those_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_CALLS", 4)
    prepared: list[int] = []
    made = sdpa_of()
    made.prepare(lambda case, operands: prepared.append(case.seqlen_q))
    model = Model()
    with attnbench.use(made):
        for seqlen in (1, 2, 3, 4, 1, 5, 1, 2):  # 5 replaces 2
            model(tokens(seqlen, batch=1))
    assert prepared == [1, 2, 3, 4, 5, 2]


@torch.no_grad()
@pytest.mark.parametrize(("strides", "contiguous"), [(["contiguous"], True), (["contiguous", "transposed"], True),
                         (["contiguous", "transposed", "qkv_slice", "sliced"], False)])  # fmt: skip
def test_tensors_lie_in_memory_as_is_declared(strides: list[str], contiguous: bool) -> None:
    """The model's tensors are transposed slices of one buffer."""
    seen: list[bool] = []

    @attnbench.attention("mine/strides", strides=strides)
    def kernel(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
        seen.extend(x.is_contiguous() for x in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v)

    with attnbench.use(kernel):
        Model()(tokens())
    assert set(seen) == {contiguous}


@torch.no_grad()
@pytest.mark.parametrize("layout", ["bshd", "packed"])
def test_layouts_are_as_declared(layout: Any) -> None:
    @attnbench.attention("mine/layout", layout=layout)
    def kernel(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
        assert q.shape[-2:] == (HEADS, WIDTH // HEADS)
        assert q.dim() == (4 if layout == "bshd" else 3)
        q, k, v = (x.reshape(2, 24, HEADS, -1).transpose(1, 2) for x in (q, k, v))
        out = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return out if layout == "bshd" else out.flatten(0, 1)

    model, x = Model(), tokens()
    expected = model(x)
    with attnbench.use(kernel) as used:
        torch.testing.assert_close(model(x), expected, **CLOSE)
    assert used.calls == LAYERS


@torch.no_grad()
def test_an_output_that_is_none_of_attentions_is_an_error() -> None:
    @attnbench.attention("mine/short")
    def kernel(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
        return q[:, :, 1:]

    why = r"mine/short returned \(2, 4, 23, 8\) of float32, not \(2, 4, 24, 8\)"
    with attnbench.use(kernel), pytest.raises(PutBackError, match=why):
        Model()(tokens())


@torch.no_grad()
def test_a_block_that_raises_is_undone() -> None:
    model, before = Model(), nn.Module.__call__
    used = attnbench.use("naive/torch")

    def interrupted() -> None:
        with used:
            model(tokens())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    model(tokens())
    assert used.calls == LAYERS
    assert nn.Module.__call__ is before
    with used:  # and can be used again
        model(tokens())
    assert used.calls == 2 * LAYERS


def test_a_block_is_not_entered_twice_at_once() -> None:
    with attnbench.use("naive/torch") as used, pytest.raises(UsageError, match="in use already"), used:
        pass


@torch.no_grad()
def test_of_blocks_within_each_other_the_inner_comes_first_and_the_outer_takes_what_it_leaves() -> None:
    model, x = Model(), tokens()
    inner, outer = sdpa_of("mine/inner", masks=["causal"]), sdpa_of("mine/outer")
    with attnbench.use(outer) as around, attnbench.use(inner) as within:
        model(x, is_causal=True)
        assert (within.calls, around.calls) == (LAYERS, 0)
        model(x)
    assert (within.calls, around.calls) == (LAYERS, LAYERS)
    assert (sum(within.fallbacks.values()), sum(around.fallbacks.values())) == (LAYERS, 0)


@torch.no_grad()
def test_a_kernel_of_a_file_is_found_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(KERNEL.format(factor=1))
    with attnbench.use("mine/kernel", plugin=str(path)) as used:
        Model()(tokens())
    assert used.calls == LAYERS


@pytest.mark.parametrize(
    ("name", "plugin", "why"),
    [
        ("numba/flsh", None, r"there is no implementation 'numba/flsh'.*numba/flash"),
        (3, None, "3 is no implementation: a name, or what"),
        ("mine/kernel", "nowhere.py", "plug-in .*nowhere.py cannot be read: No such file"),
    ],
)
def test_an_unknown_implementation_is_a_usage_error(name: str, plugin: str | None, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        attnbench.use(name, plugin=plugin)


def test_heads_that_are_equal_by_chance_have_gradients_of_their_own() -> None:
    """Equal weights make equal heads; only the gradients of copied heads are summed."""
    k, v = (torch.randn(1, 1, 5, 8).repeat(1, 4, 1, 1) for _ in range(2))
    upstream, q = torch.randn(1, 4, 5, 8), torch.randn(1, 4, 5, 8)

    def gradients(copies: bool) -> list[Tensor]:
        inputs = [x[:, :2].clone().requires_grad_() if copies else x.clone().requires_grad_() for x in (k, v)]
        keys, values = (x.repeat_interleave(2, 1) if copies else x for x in inputs)
        nn.functional.scaled_dot_product_attention(q, keys, values).backward(upstream)  # type: ignore[no-untyped-call]  # torch's
        return [x.grad for x in inputs if x.grad is not None]

    for copies in (False, True):
        expected = gradients(copies)
        with attnbench.use("naive/torch") as used:
            found = gradients(copies)
        assert used.calls == 1
        torch.testing.assert_close(found, expected, **CLOSE)


def test_an_empty_batch_is_left_to_the_model() -> None:
    empty = torch.randn(0, 4, 5, 8)
    with attnbench.use("naive/torch") as used:
        assert nn.functional.scaled_dot_product_attention(empty, empty, empty).shape == empty.shape
    assert sum(used.fallbacks.values()) == 1


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (torch.zeros(5, 5).fill_diagonal_(torch.nan), "its mask holds NaN or +inf"),
        (torch.zeros(5, 5).fill_diagonal_(torch.inf), "its mask holds NaN or +inf"),
        (torch.full((5, 5), -2e4), "its mask would hide every key from every query"),
    ],
)
def test_masks_that_say_no_kind_are_left_to_the_model(mask: Tensor, reason: str) -> None:
    q = torch.randn(1, 2, 5, 8)
    expected = nn.functional.scaled_dot_product_attention(q, q, q, mask)
    with attnbench.use("naive/torch") as used:
        found = nn.functional.scaled_dot_product_attention(q, q, q, mask)
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=0)
    assert dict(used.fallbacks) == {reason: 1}


@torch.no_grad()
def test_files_of_masks_go_with_the_calls_that_they_were_made_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(known, "MOST_CALLS", 4)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with attnbench.use("naive/torch") as used:
        for _ in range(12):
            q = torch.randn(1, 2, 5, 8)
            nn.functional.scaled_dot_product_attention(q, q, q, torch.randn(5, 5))
        assert len([*tmp_path.rglob("*.safetensors")]) == 4
    assert used.calls == 12
    assert [*tmp_path.iterdir()] == []


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # of torch's own, which torch.func.jvp imports
def test_what_torch_func_wants_is_left_to_the_model() -> None:
    q, k = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)

    def energy(x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, k, k).square().sum()

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = torch.func.grad(energy)(q), torch.func.jvp(energy, (q,), (k,))[1]
        with attnbench.use("naive/numpy") as used:
            found = torch.func.grad(energy)(q), torch.func.jvp(energy, (q,), (k,))[1]
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(q, k)  # type: ignore[no-untyped-call]  # torch's
                tangent = forward_ad.unpack_dual(energy(dual)).tangent  # type: ignore[no-untyped-call]  # torch's
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(tangent, expected[1])
    assert (used.calls, sum(used.fallbacks.values())) == (0, 3)


@torch.no_grad()
def test_an_output_that_is_not_a_number_is_left_to_the_model() -> None:
    made = attnbench.attention("mine/nan")(lambda q, k, v, case: torch.full_like(q, torch.nan))
    model, x = Model(), tokens()
    expected = model(x)
    with attnbench.use(made) as used:
        torch.testing.assert_close(model(x), expected)
    assert (used.calls, dict(used.fallbacks)) == (0, {"it returned NaN or infinity": LAYERS})


@torch.no_grad()
def test_an_output_that_overwrites_an_earlier_one_is_an_error() -> None:
    kept: dict[tuple[int, ...], Tensor] = {}

    def call(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
        out = kept.setdefault(q.shape, torch.empty_like(q))
        return out.copy_(nn.functional.scaled_dot_product_attention(q, k, v))

    q = torch.randn(1, 2, 5, 8)
    with attnbench.use(attnbench.attention("mine/kept")(call)):
        first = nn.functional.scaled_dot_product_attention(q, q, q)
        with pytest.raises(PutBackError, match="memory of an earlier output"):
            nn.functional.scaled_dot_product_attention(2 * q, q, q)
    del first


@torch.no_grad()
def test_autocast_does_not_reach_into_an_implementation() -> None:
    found: list[torch.dtype] = []

    def call(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
        found.append((q.float() @ k.float().mT).dtype)
        return nn.functional.scaled_dot_product_attention(q, k, v)

    q = torch.randn(1, 2, 5, 8)
    made = attnbench.attention("mine/seen", dtypes=["bfloat16"])(call)
    with torch.autocast("cpu", torch.bfloat16), attnbench.use(made):
        assert nn.functional.scaled_dot_product_attention(q, q, q).dtype == torch.bfloat16
    assert found == [torch.float32]


@pytest.mark.filterwarnings("ignore")
def test_what_is_exported_is_the_model() -> None:
    """During export tensors have no values, so an implementation would read memory that does not exist."""
    model, x = Model().eval(), tokens()
    with attnbench.use("naive/torch") as used:
        exported = torch.export.export(model, (x,))
    assert used.calls == 0
    torch.testing.assert_close(exported.module()(x), model(x))
