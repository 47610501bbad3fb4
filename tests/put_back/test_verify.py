"""A model's outputs with an implementation are judged by the effect of rounding errors in its own attention."""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

import attnbench
from attnbench import UsageError
from attnbench.put_back.moves import CHANCE, SEEDS, factor, judged
from attnbench.put_back.outputs import distance, float_tensors
from tests.put_back.models import KERNEL, LAYERS, Model, tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="the extra capture (transformers) is not installed"
)


def of(model: Model, x: Tensor, **masking: Any) -> Callable[[], Tensor]:
    @torch.no_grad()
    def run() -> Tensor:
        out: Tensor = model(x, **masking)
        return out

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["numba/flash", "naive/torch"])
def test_a_sound_implementation_agrees(name: str, dtype: torch.dtype) -> None:
    run = of(Model().to(dtype), tokens().to(dtype), is_causal=True)
    verified = attnbench.verify(run, name, rounds=3)
    assert verified.ok, verified
    assert verified.verified.calls == LAYERS
    (move,) = verified.verified.moves
    assert 0 < move.relative < move.bound
    assert len(verified.verified.original_s) == len(verified.verified.replaced_s) == 3
    assert f"{name} agrees with the model's own attention" in " ".join(str(verified).split())


@pytest.mark.parametrize("factor_of_scale", [1.001, 2])
def test_a_planted_mistake_is_caught(tmp_path: Path, factor_of_scale: float) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL.format(factor=factor_of_scale))
    run = of(Model(), tokens(), is_causal=True)
    verified = attnbench.verify(run, "mine/kernel", plugin=str(tmp_path / "kernel.py"), rounds=1)
    assert not verified.ok
    assert "mine/kernel is wrong in this model: output moves by" in " ".join(str(verified).split())


def test_a_mistake_in_a_single_row_is_caught() -> None:
    @attnbench.attention("mine/row", masks=["causal"])
    def kernel(q: Tensor, k: Tensor, v: Tensor, case: attnbench.Case) -> Tensor:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out[0, 1, -1] *= 1.001
        return out

    (move,) = attnbench.verify(of(Model(), tokens(256), is_causal=True), kernel, rounds=1).verified.moves
    assert move.row_ratio > 1


def test_rows_that_hang_on_queries_without_keys_are_left_out() -> None:
    """For a query that sees no key, the implementation returns 0 and this model another value."""
    sees = torch.ones(24, 24, dtype=torch.bool).tril()
    sees = sees & (torch.arange(24) >= torch.tensor([0, 5])[:, None, None, None])  # left padding
    mask = torch.where(sees, 0.0, torch.finfo(torch.float32).min)
    verified = attnbench.verify(of(Model(), tokens(), attn_mask=mask), "naive/torch", rounds=1)
    (move,) = verified.verified.moves
    assert verified.verified.calls == LAYERS
    assert move.rows_left_out == 5
    assert move.agrees


def test_dropout_of_other_layers_is_the_same_in_all_runs() -> None:
    model = Model()
    dropped = torch.nn.Dropout(0.5)  # in training, always
    assert attnbench.verify(lambda: dropped(model(tokens())), "naive/torch", rounds=1).ok


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: 3, "the model returns no tensor of floats"),
        (of(Model().double(), tokens().double()), "mine/kernel computed 0 of 3 attention calls"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, model: Callable[[], object], why: str) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL.format(factor=1))
    with pytest.raises(UsageError, match=why):
        attnbench.verify(model, "mine/kernel", plugin=str(tmp_path / "kernel.py"))


def test_tensors_are_found_in_whatever_a_model_returns() -> None:
    one, two, ids = torch.ones(2), torch.zeros(3), torch.arange(4)
    found = float_tensors({"logits": one, "states": (two, [one]), "ids": ids, "cache": object()})
    assert list(found) == ["logits", "states[0]", "states[1][0]"]
    assert list(float_tensors(one)) == ["output"]
    one += 1
    assert found["logits"].tolist() == [1, 1]  # a copy


def test_distances_are_norms_of_the_whole_and_of_the_worst_row() -> None:
    one, other = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [0.0, 12.0]])
    assert distance(one, other) == type(distance(one, one))(13.0, 12.0)
    assert distance(one, other, torch.tensor([True, False])).whole == 5.0
    gone = torch.tensor([[math.nan, 0.0], [0.0, 0.0]])
    assert distance(gone, gone).whole == 0
    assert distance(one, gone).whole == math.inf


def test_a_bound_is_a_multiple_of_the_root_mean_square_of_the_moves() -> None:
    original = {"y": torch.tensor([[3.0, 4.0]], dtype=torch.float64)}
    disturbed = [{"y": original["y"] + torch.tensor([[size, 0.0]])} for size in (0.03, 0.04)]
    (move,) = judged(original, {"y": original["y"] + torch.tensor([[0.0, 0.05]])}, disturbed, {})
    times = factor(1, seeds=2)
    assert move.relative == pytest.approx(0.05 / 5)
    assert move.bound == pytest.approx(times * math.sqrt((0.03**2 + 0.04**2) / 2) / 5)
    assert move.row_ratio == pytest.approx(0.05 / (times * math.sqrt((0.03**2 + 0.04**2) / 2)))


def test_an_output_that_nothing_moves_must_not_move() -> None:
    original = {"y": torch.ones(1, 2)}
    still, moved = (judged(original, {"y": torch.full((1, 2), v)}, [original] * SEEDS, {})[0] for v in (1.0, 1.0001))
    assert still.agrees
    assert not moved.agrees


def test_few_sound_implementations_exceed_the_bound_in_the_worst_model() -> None:
    """All moves are along one direction: 200,000 of them, and eight times as many for their bounds."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(200_000, SEEDS + 1, generator=generator, dtype=torch.float64)
    over = drawn[:, 0].abs() > factor(1) * drawn[:, 1:].square().mean(1).sqrt()
    # The probability is divided between the whole output and the worst row.
    assert 0.5 < float(over.double().mean()) / (CHANCE / 2) < 1.5


@needs_transformers
@torch.no_grad()
def test_a_llama_of_transformers_keeps_its_outputs() -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        vocab_size=101,
    )  # fmt: skip
    model: Any = transformers.LlamaForCausalLM(config)
    model.eval()
    ids = torch.randint(1, 101, (2, 40))
    before = model(input_ids=ids).logits
    with attnbench.use("numba/flash") as used:
        generated = model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert (used.calls, dict(used.fallbacks)) == (2 * 3, {})
    assert torch.equal(generated, model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0))
    verified = attnbench.verify(lambda: model(input_ids=ids), "numba/flash", rounds=1)
    assert verified.ok, verified
    assert verified.verified.calls == 2
    assert torch.equal(model(input_ids=ids).logits, before)
