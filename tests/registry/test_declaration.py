"""Which masks a declaration supports."""

from __future__ import annotations

from typing import Any

import pytest

from attnbench import Implementation, attention, make_case
from attnbench.registry.implementation import DeclarationError


def declared(**said: Any) -> Implementation:
    def call(q: Any, k: Any, v: Any, case: Any) -> Any:
        return q

    return attention("mine/kernel", **said)(call)


PADDED_CAUSAL = make_case(mask="causal & key_padding")


@pytest.mark.parametrize(
    "said",
    [
        {"masks": ["causal & key_padding"]},
        {"masks": ["key_padding&causal"]},
        {"masks": ["none", "causal", "key_padding"], "mask_intersections": True},
    ],
)
def test_an_intersection_is_taken_where_it_is_declared_or_all_intersections_are(said: dict[str, Any]) -> None:
    assert declared(**said).declaration.refuses(PADDED_CAUSAL, "cpu") is None


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"masks": ["causal", "key_padding"]},
            "mask 'causal & key_padding' is not declared (only causal, key_padding; nor is mask_intersections)",
        ),
        (
            {"masks": ["causal"], "mask_intersections": True},
            "mask 'causal & key_padding' is not declared (only causal)",
        ),
    ],
)
def test_any_other_is_refused_with_a_sentence(said: dict[str, Any], sentence: str) -> None:
    assert declared(**said).declaration.refuses(PADDED_CAUSAL, "cpu") == sentence


def test_an_intersection_says_nothing_of_its_kinds_alone() -> None:
    said = declared(masks=["causal & key_padding"]).declaration
    assert said.refuses(make_case(mask="causal"), "cpu") == "mask 'causal' is not declared (only causal & key_padding)"


def test_an_unknown_kind_is_no_declaration() -> None:
    with pytest.raises(DeclarationError, match="masks: 'full' is none of none, causal"):
        declared(masks=["causal & full"])
