"""Short forms of lists of layer names."""

from __future__ import annotations

import pytest

from attnbench.capturing.layers import in_short


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        (["attention"], "attention"),
        (["layers.7.self_attn"], "layers.7.self_attn"),
        ([f"layers.{n}.self_attn" for n in range(12)], "layers.0…11.self_attn"),
        ([f"layers.{n}.self_attn" for n in range(1, 12, 2)], "layers.1,3,5,7,9,11.self_attn"),
        ([f"layers.{n}.self_attn" for n in range(0, 32, 2)], "layers.0,2,…,30.self_attn"),
        ([f"encoder.{n}.a" for n in range(3)] + ["decoder.0.a"], "encoder.0…2.a and 1 other"),
    ],
)  # fmt: skip
def test_layers_that_differ_in_a_number_are_told_together(layers: list[str], text: str) -> None:
    assert in_short(layers) == text
