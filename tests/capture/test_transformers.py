"""transformers models: one call per layer, and each is exactly the case that the architecture defines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbench import capture, use
from attnbench.store.capture import read_capture
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from tests.capture.seen import see

models = pytest.importorskip("tests.capture.models", reason="needs the extra 'capture'")
IDS, REAL = models.IDS, models.REAL

Fields = dict[str, object]
SELF: Fields = {
    "batch": 2, "heads_q": 4, "heads_kv": 4, "seqlen_q": 24, "seqlen_kv": 24, "head_dim": 16, "head_dim_v": 16,
    "dtype": "float32", "scale": 0.25, "mask": "none", "score_mod": "none",
}  # fmt: skip
CAUSAL: Fields = {**SELF, "mask": "causal"}
GROUPED: Fields = {**CAUSAL, "heads_kv": 2}
PADDED: Fields = {**SELF, "mask": "key_padding", "kv_lengths": (24, 16)}
WINDOW: Fields = {"mask": "sliding_window", "window_left": 7, "window_right": 0}
SOFTCAP: Fields = {"scale": 1 / 16, "score_mod": "softcap", "softcap": 50.0}
SINK: Fields = {"score_mod": "sink"}
BIAS: Fields = {"scale": 1.0, "score_mod": "bias"}
DECODER: Fields = {**CAUSAL, "seqlen_q": 12, "seqlen_kv": 12, "scale": 1.0}


def run(model: Any, **inputs: object) -> Callable[[], torch.Tensor]:
    """Return a function that runs a forward pass and returns its first output."""

    def forward() -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = model(**inputs)[0]
        return out

    return forward


def layers(pattern: str, fields: Fields) -> list[tuple[str, Fields]]:
    """Return the same fields for both layers of a name pattern."""
    return [(pattern.format(n), fields) for n in (0, 1)]


def in_turns(*of_layers: list[tuple[str, Fields]]) -> list[tuple[str, Fields]]:
    """Return the attention of the first layer, then that of the second."""
    return [one for of_one in zip(*of_layers, strict=True) for one in of_one]


PADDED_CAUSAL: Fields = {**GROUPED, "mask": "causal & key_padding", "kv_lengths": (24, 16)}
ARCHITECTURES: list[tuple[str, Fields, list[tuple[str, Fields]]]] = [
    ("llama", {"input_ids": IDS}, layers("model.layers.{}.self_attn", GROUPED)),
    ("llama", {"input_ids": IDS, "attention_mask": REAL}, layers("model.layers.{}.self_attn", PADDED_CAUSAL)),
    (
        "llama", {"input_ids": IDS, "attention_mask": models.REAL_ON_THE_RIGHT},
        layers("model.layers.{}.self_attn", {**GROUPED, "mask": "causal & left_padding", "kv_starts": (0, 8)}),
    ),
    (
        "gemma2", {"input_ids": IDS},
        [("model.layers.0.self_attn", GROUPED | SOFTCAP | WINDOW), ("model.layers.1.self_attn", GROUPED | SOFTCAP)],
    ),
    (
        "gpt_oss", {"input_ids": IDS},
        [("model.layers.0.self_attn", GROUPED | SINK | WINDOW), ("model.layers.1.self_attn", GROUPED | SINK)],
    ),
    (
        "deepseek_v3", {"input_ids": IDS},
        layers("model.layers.{}.self_attn", {**CAUSAL, "head_dim": 24, "scale": 24**-0.5}),
    ),
    ("bert", {"input_ids": IDS, "attention_mask": REAL}, layers("encoder.layer.{}.attention.self", PADDED)),
    (
        "t5", {"input_ids": IDS, "attention_mask": REAL, "decoder_input_ids": IDS[:, :12]},
        layers("encoder.block.{}.layer.0.SelfAttention", PADDED | BIAS) + in_turns(
            layers("decoder.block.{}.layer.0.SelfAttention", DECODER | BIAS),
            layers("decoder.block.{}.layer.1.EncDecAttention", PADDED | {"scale": 1.0, "seqlen_q": 12}),
        ),
    ),
    (
        "whisper", {"input_features": torch.randn(2, 16, 64), "decoder_input_ids": IDS[:, :12]},
        layers("encoder.layers.{}.self_attn", {**SELF, "seqlen_q": 32, "seqlen_kv": 32, "scale": 1.0}) + in_turns(
            layers("decoder.layers.{}.self_attn", DECODER),
            layers("decoder.layers.{}.encoder_attn", {**SELF, "seqlen_q": 12, "seqlen_kv": 32, "scale": 1.0}),
        ),
    ),
    (
        "vit", {"pixel_values": torch.randn(2, 3, 32, 32)},
        layers("layers.{}.attention", {**SELF, "seqlen_q": 17, "seqlen_kv": 17}),
    ),
]  # fmt: skip


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("name", "inputs", "expected"), ARCHITECTURES)
def test_each_architecture_is_seen_exactly(
    name: str, inputs: Fields, expected: list[tuple[str, Fields]], implementation: str, tmp_path: Path
) -> None:
    model = getattr(models, name)()
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(implementation)
    elif implementation == "sdpa":
        pytest.skip(f"{name} computes its attention eagerly")
    seen = see(run(model, **inputs))
    assert seen.unmatched == []
    assert {call.api for call in seen.calls} == {"transformers"}
    assert [(call.layer, spec.fields()) for call, spec in zip(seen.calls, seen.specs, strict=True)] == expected
    with capture(tmp_path / "out") as captured:
        run(model, **inputs)()
    assert captured.capture.unmatched == ()
    counted = {call.shape: (call.calls, call.layers) for call in captured.capture.calls}
    for planned in expand(load_scenario(str(tmp_path / "out/scenario.toml")), {}):
        of_case = planned.case.to_dict()
        alike = [
            layer for layer, fields in expected
            if {key: of_case[key] for key in fields} == {key: _as_stored(value) for key, value in fields.items()}
        ]  # fmt: skip
        (shape,) = planned.tags
        assert counted.pop(shape) == (len(alike), tuple(alike))
    assert counted == {}


def _as_stored(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def test_generation_is_counted_token_by_token(tmp_path: Path) -> None:
    model: Any = models.llama()
    with capture(tmp_path / "out", tensors="first") as captured:
        model.generate(IDS, max_new_tokens=9, do_sample=False, attention_mask=torch.ones_like(IDS), pad_token_id=0)
    found = captured.capture
    names = ("model.layers.0.self_attn", "model.layers.1.self_attn")
    assert {call.layers for call in found.calls} == {names}
    assert sum(call.calls for call in found.calls) == 2 * 9
    prefill = [call for call in found.calls if call.seqlen_q == (24, 24)]
    assert [call.calls for call in prefill] == [2]
    lengths = sorted(call.seqlen_kv for call in found.calls if call.seqlen_q == (1, 1))
    assert lengths == [(25, 30), (31, 32)]
    assert read_capture(tmp_path / "out") == found
    shapes = expand(load_scenario(str(tmp_path / "out/scenario.toml")), {})
    assert sorted(tag for one in shapes for tag in one.tags) == ["call-1", "call-2", "call-3"]
    assert found.versions["transformers"] == models.T.__version__
    assert len([*(tmp_path / "out/tensors").iterdir()]) == 3  # those of calls that represent others


def test_of_a_static_cache_what_is_filled_is_seen() -> None:
    model: Any = models.llama()
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "cache_implementation": "static"}
    seen = see(lambda: model.generate(IDS, attention_mask=torch.ones_like(IDS), **options))
    decode: Fields = {**GROUPED, "seqlen_q": 1, "seqlen_kv": 26, "mask": "key_padding", "kv_lengths": (25, 25)}
    last: Fields = {**GROUPED, "seqlen_q": 1, "seqlen_kv": 26, "mask": "none"}
    assert [spec.fields() for spec in seen.specs] == [GROUPED] * 2 + [decode] * 2 + [last] * 2


def test_functions_of_flash_attention_take_the_padding_as_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """They also have their own diagonal and window, which are not part of the mask."""

    def flash(
        module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: Any, sliding_window: Any = None, **_: Any
    ) -> Any:
        seen_keys = torch.ones(24, 24).tril().bool()
        if sliding_window is not None:
            seen_keys &= ~torch.ones(24, 24).tril(-sliding_window).bool()
        whole = seen_keys if mask is None else seen_keys & mask[:, None, None].bool()
        sdpa = torch.nn.functional.scaled_dot_product_attention
        return sdpa(q, k, v, whole, scale=scaling, enable_gqa=True).transpose(1, 2), None

    monkeypatch.setitem(models.T.AttentionInterface._global_mapping, "flash_attention_2", flash)
    llama: Any = models.llama()
    llama.config._attn_implementation = "flash_attention_2"
    padded = see(run(llama, input_ids=IDS, attention_mask=REAL))
    assert [spec.fields() for spec in padded.specs] == [PADDED_CAUSAL] * 2
    config = models.T.MistralConfig(**models.TEXT, num_key_value_heads=2, sliding_window=8)
    mistral: Any = models.made(models.T.MistralForCausalLM, config)
    mistral.config._attn_implementation = "flash_attention_2"
    windowed = see(run(mistral, input_ids=IDS))
    assert [spec.fields() for spec in windowed.specs] == [GROUPED | WINDOW] * 2


def test_a_forward_and_a_backward_pass_of_a_model_in_training() -> None:
    model: Any = models.llama().train()

    def step() -> None:
        model(input_ids=IDS, labels=IDS).loss.backward()

    seen = see(step)
    assert [spec.fields() for spec in seen.specs] == [GROUPED, GROUPED]
    assert all(call.needs_gradients for call in seen.calls)


def test_the_interface_is_as_before_when_the_block_ends() -> None:
    interface = models.T.AttentionInterface
    before = interface.get_interface, interface.__getitem__
    see(run(models.bert(), input_ids=IDS))
    assert (interface.get_interface, interface.__getitem__) == before


def test_an_argument_that_is_unknown_makes_a_call_unmatched() -> None:
    """Its function may do anything with an unknown argument."""

    def own(module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: Any = None, twist: Any = None, **_: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2), None

    models.T.AttentionInterface.register("twisted", own)
    models.T.AttentionMaskInterface.register("twisted", lambda *_, **__: None)
    model: Any = models.bert()
    model.set_attn_implementation("twisted")
    assert len(see(run(model, input_ids=IDS)).calls) == 2
    seen = see(run(model, input_ids=IDS, twist=torch.ones(1)))
    assert seen.calls == []
    reason = "its attention function takes twist, unknown to attnbench"
    assert seen.unmatched == [("twisted attention of BertSelfAttention", reason)] * 2


@pytest.mark.parametrize("inner", ["capture", "use"])
def test_blocks_lie_within_each_other(inner: str, tmp_path: Path) -> None:
    interface = models.T.AttentionInterface
    before = dict(vars(interface))
    forward = run(models.llama(), input_ids=IDS)
    with capture(tmp_path / "outer") as outer:
        forward()
        with capture(tmp_path / "inner") if inner == "capture" else use("naive/torch"):
            forward()
        forward()
    assert dict(vars(interface)) == before
    assert sum(call.calls for call in outer.capture.calls) == (6 if inner == "capture" else 4)
    assert outer.capture.unmatched == ()
