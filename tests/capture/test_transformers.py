"""Models of transformers: as many calls as their layers say, and each exactly the case that the architecture is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbench import capture
from attnbench.store.capture import read_capture
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from tests.capture.seen import Seen, see

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
DECODER: Fields = {**CAUSAL, "seqlen_q": 12, "seqlen_kv": 12, "scale": 1.0}


def run(model: Any, **inputs: object) -> Callable[[], torch.Tensor]:
    """A forward pass; its first output."""

    def forward() -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = model(**inputs)[0]
        return out

    return forward


ARCHITECTURES: list[tuple[str, Fields, list[tuple[str, Fields]]]] = [
    ("llama", {"input_ids": IDS}, [(f"model.layers.{n}.self_attn", GROUPED) for n in (0, 1)]),
    (
        "llama", {"input_ids": IDS, "attention_mask": REAL},
        [(f"model.layers.{n}.self_attn", {**GROUPED, "mask": "causal & key_padding", "kv_lengths": (24, 16)}) for n in (0, 1)],
    ),
    (
        "llama", {"input_ids": IDS, "attention_mask": models.REAL_ON_THE_RIGHT},
        [(f"model.layers.{n}.self_attn", {**GROUPED, "mask": "causal & tensor"}) for n in (0, 1)],
    ),
    (
        "gemma2", {"input_ids": IDS},
        [("model.layers.0.self_attn", GROUPED | SOFTCAP | WINDOW), ("model.layers.1.self_attn", GROUPED | SOFTCAP)],
    ),
    (
        "gpt_oss", {"input_ids": IDS},
        [
            ("model.layers.0.self_attn", GROUPED | WINDOW | {"score_mod": "sink"}),
            ("model.layers.1.self_attn", GROUPED | {"score_mod": "sink"}),
        ],
    ),
    (
        "deepseek_v3", {"input_ids": IDS},
        [(f"model.layers.{n}.self_attn", {**CAUSAL, "head_dim": 24, "scale": 24**-0.5}) for n in (0, 1)],
    ),
    (
        "bert", {"input_ids": IDS, "attention_mask": REAL},
        [(f"encoder.layer.{n}.attention.self", PADDED) for n in (0, 1)],
    ),
    (
        "t5", {"input_ids": IDS, "attention_mask": REAL, "decoder_input_ids": IDS[:, :12]},
        [
            *((f"encoder.block.{n}.layer.0.SelfAttention", PADDED | {"scale": 1.0, "score_mod": "bias"}) for n in (0, 1)),
            *(
                one for n in (0, 1) for one in (
                    (f"decoder.block.{n}.layer.0.SelfAttention", DECODER | {"score_mod": "bias"}),
                    (f"decoder.block.{n}.layer.1.EncDecAttention", PADDED | {"scale": 1.0, "seqlen_q": 12}),
                )
            ),
        ],
    ),
    (
        "whisper", {"input_features": torch.randn(2, 16, 64), "decoder_input_ids": IDS[:, :12]},
        [
            *((f"encoder.layers.{n}.self_attn", {**SELF, "seqlen_q": 32, "seqlen_kv": 32, "scale": 1.0}) for n in (0, 1)),
            *(
                one for n in (0, 1) for one in (
                    (f"decoder.layers.{n}.self_attn", DECODER),
                    (f"decoder.layers.{n}.encoder_attn", {**SELF, "seqlen_q": 12, "seqlen_kv": 32, "scale": 1.0}),
                )
            ),
        ],
    ),
    ("vit", {"pixel_values": torch.randn(2, 3, 32, 32)}, [("", {**SELF, "seqlen_q": 17, "seqlen_kv": 17})] * 2),
]  # fmt: skip


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("name", "inputs", "expected"), ARCHITECTURES)
def test_each_architecture_is_seen_exactly(
    name: str, inputs: Fields, expected: list[tuple[str, Fields]], implementation: str
) -> None:
    model = getattr(models, name)()
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(implementation)
    elif implementation == "sdpa":
        pytest.skip(f"{name} computes its attention eagerly")
    seen = see(run(model, **inputs))
    assert seen.unmatched == []
    assert {call.api for call in seen.calls} == {"transformers"}
    if name == "vit":  # whose modules' names have changed from version to version
        expected = [(str(call.layer), fields) for call, (_, fields) in zip(seen.calls, expected, strict=True)]
    assert [(call.layer, spec.fields()) for call, spec in zip(seen.calls, seen.specs, strict=True)] == expected
