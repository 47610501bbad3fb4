"""A mask is described as a kind only if that kind's dense mask is equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from attnbench.cases.case import make_case
from attnbench.cases.masks import dense_mask
from attnbench.interception import AttentionCall
from attnbench.interception.described import CallSpec, KnownMasks, Reason, described
from attnbench.interception.described.masks import MaskFields, recognised

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 3
SIZES = [(12, 12), (5, 12), (12, 5), (1, 12)]
KINDS: list[dict[str, object]] = [
    {"mask": "none"},
    {"mask": "causal"},
    {"mask": "causal", "alignment": "bottom_right"},
    {"mask": "key_padding", "kv_lengths": (5, 3, 1)},
    {"mask": "key_padding", "kv_lengths": (5, 0, 4)},
    {"mask": "causal & key_padding", "kv_lengths": (5, 3, 1)},
    {"mask": "causal & key_padding", "kv_lengths": (5, 3, 1), "alignment": "bottom_right"},
    {"mask": "left_padding", "kv_starts": (0, 2, 4)},
    {"mask": "key_padding & left_padding", "kv_starts": (0, 1, 3), "kv_lengths": (5, 3, 4)},
    {"mask": "causal & left_padding", "kv_starts": (0, 2, 3)},
    {"mask": "causal & left_padding", "kv_starts": (1, 2, 4), "alignment": "bottom_right"},
    {"mask": "sliding_window", "window_left": 3, "window_right": 0},
    {"mask": "sliding_window", "window_left": 3, "window_right": 0, "alignment": "bottom_right"},
    {"mask": "sliding_window", "window_left": 2, "window_right": 1},
    {"mask": "sliding_window & key_padding", "window_left": 2, "window_right": 1, "kv_lengths": (5, 4, 1)},
    {"mask": "sliding_window & key_padding", "window_left": 2, "window_right": 0, "kv_lengths": (5, 4, 1)},
    {"mask": "prefix_lm", "prefix_len": 4},
    {"mask": "prefix_lm & key_padding", "prefix_len": 4, "kv_lengths": (5, 5, 3)},
]
SQUARE: list[dict[str, object]] = [
    {"mask": "document", "document_lengths": (3, 1, 8)},
    {"mask": "document", "document_lengths": (3, 1, 8), "document_causal": True},
    {"mask": "document & key_padding", "document_lengths": (3, 1, 8), "kv_lengths": (12, 7, 4)},
    {"mask": "sliding_window", "window_left": 1, "window_right": 0},
]
CASES = [(fields, *sizes) for fields in KINDS for sizes in SIZES] + [(fields, 12, 12) for fields in SQUARE]


def dense(said: MaskFields, seqlen_q: int, seqlen_kv: int) -> NDArray[np.bool_]:
    """Return the described mask, (batch, seqlen_q, seqlen_kv)."""
    fields = said.without_tensor().fields()
    whole = dense_mask(make_case(batch=BATCH, seqlen_q=seqlen_q, seqlen_kv=seqlen_kv, **fields))
    if said.tensor is not None:
        whole = whole & said.tensor
    return np.broadcast_to(whole, (BATCH, 1, seqlen_q, seqlen_kv))[:, 0]


@pytest.mark.parametrize(("fields", "seqlen_q", "seqlen_kv"), CASES)
def test_each_kind_is_found_and_is_the_same_mask(fields: dict[str, object], seqlen_q: int, seqlen_kv: int) -> None:
    case = make_case(batch=BATCH, seqlen_q=seqlen_q, seqlen_kv=seqlen_kv, **fields)
    given = dense_mask(case)[:, 0]
    said = recognised(given, BATCH, seqlen_q, seqlen_kv)
    assert (dense(said, seqlen_q, seqlen_kv) == given).all()
    assert said.tensor is None
    if seqlen_q == seqlen_kv == 12:  # for other lengths two kinds may be the same mask
        assert {name: getattr(case, name) for name in fields} == {name: getattr(said, name) for name in fields}


def test_keys_with_holes_are_a_tensor_beside_the_kind() -> None:
    keys = np.random.default_rng(0).random((BATCH, 1, 12)) < 0.6
    for rows, name in ((np.tril(np.ones((12, 12), bool)), "causal & tensor"), (np.ones((12, 12), bool), "tensor")):
        said = recognised(keys & rows, BATCH, 12, 12)
        assert said.mask == name
        assert said.tensor is not None
        assert said.tensor.shape == (BATCH, 1, 1, 12)
        assert (dense(said, 12, 12) == (keys & rows)).all()


def test_one_more_key_anywhere_makes_it_another_mask() -> None:
    """The described mask is always equal, for each kind with each single element inverted."""
    for fields in (*KINDS, *SQUARE):
        given = dense_mask(make_case(batch=BATCH, seqlen_q=12, seqlen_kv=12, **({"kv_lengths": None} | fields)))
        for place in range(0, 144, 5):
            turned = np.broadcast_to(given, (BATCH, 1, 12, 12))[:, 0].copy()
            turned[-1, place // 12, place % 12] ^= True
            assert (dense(recognised(turned, BATCH, 12, 12), 12, 12) == turned).all(), fields


def test_a_mask_without_any_shape_stays_whole() -> None:
    given = np.random.default_rng(0).random((BATCH, 12, 12)) < 0.5
    said = recognised(given, BATCH, 12, 12)
    assert said.mask == "tensor"
    assert said.tensor is not None
    assert (said.tensor[:, 0] == given).all()


def call(mask: torch.Tensor | None, **more: object) -> AttentionCall:
    q, k = torch.randn(BATCH, 4, 12, 8), torch.randn(BATCH, 2, 12, 8)
    fields = {"q": q, "scale": 1.0, "api": "sdpa", "given": (q, k, k), "run": lambda q, k, v: q, **more}
    return AttentionCall(k=k, v=k, mask=mask, **fields)  # type: ignore[arg-type]


def spec(mask: torch.Tensor | None, **more: object) -> CallSpec:
    found = described(call(mask, **more))
    assert isinstance(found, CallSpec)
    return found


@pytest.mark.parametrize("hidden", [-torch.inf, torch.finfo(torch.float32).min, -1e9, -1e4])
def test_a_mask_of_floats_is_what_it_hides_and_what_it_adds(hidden: float) -> None:
    causal = torch.ones(12, 12).tril().bool()
    plain = spec(torch.where(causal, 0.0, hidden)[None, None])
    assert (plain.mask.mask, plain.score_mod, plain.bias) == ("causal", "none", None)
    bias = torch.randn(1, 4, 12, 12)
    both = spec(torch.where(causal, bias, hidden))
    assert (both.mask.mask, both.score_mod) == ("causal", "bias")
    assert both.bias is not None
    assert torch.equal(both.bias, torch.where(causal, bias, 0.0))


def test_a_bias_beside_a_mask_is_added_to_what_the_mask_adds() -> None:
    mask, bias = torch.randn(1, 1, 12, 12), torch.randn(1, 4, 12, 12)
    found = spec(mask, bias=bias)
    assert found.bias is not None
    assert torch.equal(found.bias, mask + bias)
    assert spec(None, bias=torch.zeros(1, 4, 12, 12)).score_mod == "none"


def test_rules_say_the_mask_without_a_tensor() -> None:
    assert spec(None, causal="top_left").mask.fields() == {"mask": "causal"}
    window = {"mask": "sliding_window", "window_left": 3, "window_right": 0}
    assert spec(None, causal="bottom_right", window=4).mask.fields() == window
    assert spec(None, causal="bottom_right", window=4, q=torch.randn(BATCH, 4, 5, 8)).mask.fields() == (
        window | {"alignment": "bottom_right"}
    )
    keys = torch.arange(12)[None, None, None] < torch.tensor([12, 7, 3])[:, None, None, None]
    assert spec(keys, causal="top_left").mask.fields() == {"mask": "causal & key_padding", "kv_lengths": (12, 7, 3)}


@pytest.mark.parametrize("of_floats", [False, True])
def test_a_mask_that_differs_between_heads_is_what_any_sees_and_a_bias(of_floats: bool) -> None:
    """A bias of -inf hides a key from one head."""
    causal = torch.ones(12, 12).tril().bool()
    by_head = causal & (torch.rand(BATCH, 4, 12, 12) < 0.5)
    by_head[:, 0] = causal
    values = torch.randn(BATCH, 4, 12, 12) if of_floats else torch.zeros(())
    found = spec(torch.where(by_head, values, -torch.inf) if of_floats else by_head)
    assert (found.mask.fields(), found.score_mod) == ({"mask": "causal"}, "bias")
    assert found.bias is not None
    whole = torch.where(causal, found.bias, -torch.inf)
    assert torch.equal(whole, torch.where(by_head, values, -torch.inf))


def test_what_no_case_can_say_has_a_reason() -> None:
    nothing = torch.full((1, 4, 12, 12), torch.nan)
    assert described(call(nothing)) == Reason("its mask holds NaN or +inf")


def test_a_cap_and_a_bias_are_said_in_the_order_in_which_they_are_applied() -> None:
    both = spec(None, softcap=30.0, bias=torch.randn(1, 4, 12, 12))
    assert (both.score_mod, both.softcap) == ("softcap & bias", 30.0)


def test_a_mask_that_was_changed_in_place_is_looked_at_again() -> None:
    known, mask = KnownMasks(), torch.ones(1, 1, 12, 12).tril().bool()
    first = described(call(mask), known)
    again = described(call(mask.clone()), known)
    mask[0, 0, 0, 5] = True
    changed = described(call(mask), known)
    assert isinstance(first, CallSpec)
    assert isinstance(again, CallSpec)
    assert isinstance(changed, CallSpec)
    assert again.mask is first.mask
    assert (first.mask.mask, changed.mask.mask) == ("causal", "tensor")
