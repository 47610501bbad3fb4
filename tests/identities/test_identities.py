"""Each identity holds for correct implementations, and is broken by a mistake of its kind."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbench import Case, make_case
from attnbench.cases.inputs import sampling
from attnbench.identities.collection import IDENTITIES, name_of, sentence_of
from attnbench.identities.identity import Allowance
from attnbench.mutants.collection import mutants
from attnbench.mutants.mutant import Mutant, implementation_of
from attnbench.mutants.steps import Explicit, Plan, Steps, Tiled
from attnbench.mutants.trial import trial
from attnbench.oracle import selection
from attnbench.oracle.identities import judge_identities
from attnbench.oracle.judge import find_truth
from attnbench.oracle.selection import select
from attnbench.stages.call import FirstCalls, FreshCall
from attnbench.stages.identities import CheckIdentities
from attnbench.stages.prepare import Prepare
from attnbench.worker.worker import Worker

MUTANTS = {mutant.name: mutant for mutant in mutants()}
EVERYTHING = Allowance(time_ns=math.inf, memory_bytes=math.inf, prepare_ns=math.inf)
USUAL: dict[str, Any] = {"heads_q": 2, "seqlen_q": 131, "head_dim": 32}
BACKWARD: dict[str, Any] = {**USUAL, "mode": "forward_backward"}
LATENT: dict[str, Any] = {**USUAL, "heads_kv": 1, "head_dim_v": 24, "kv_cache": "latent", "scale": 0.3}
RAGGED: dict[str, Any] = {"heads_q": 2, "head_dim": 32, "mode": "forward_backward", "requests": "q66_3q1s70_q7s65"}
PADDED: dict[str, Any] = {**BACKWARD, "mask": "key_padding", "batch": 2, "kv_lengths": [131, 77]}


def look(case: Case, mutant: Mutant, allowance: Allowance = EVERYTHING) -> dict[str, Any]:
    """Judge a mutant's identities: the oracle's ``problem`` and ``ratios``, and the identities ``left_out``."""
    worker = Worker(mutant.implementation, repeat_ns=0)
    Prepare(case=case, device="cpu").serve(worker)
    FirstCalls().serve(worker)
    FreshCall().serve(worker)
    seen = CheckIdentities(allowance=allowance).serve(worker)
    truths = [find_truth(case, select(case, repetition), repetition) for repetition in (0, 1)]
    verdict = judge_identities(case, truths, seen.found)
    return {"problem": verdict.problem, "ratios": verdict.ratios, "left_out": seen.left_out}


def healthy(steps: type[Steps]) -> Mutant:
    return Mutant("healthy", "", None, implementation_of(steps, "mutant/healthy"))


class OneRowTooLarge(Steps):
    """Only row 77 is too large."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, case: Case, plan: Plan) -> Any:
        out, lse = super().forward(q, k, v, case, plan)
        factor = torch.ones(out.shape[2], 1)
        factor[77:78] = 1.03
        return out * factor, lse


class AQueryLost(Explicit):
    """Query 77 is missing in dV."""

    def weights_of_dv(self, weights: torch.Tensor) -> torch.Tensor:
        return torch.cat([weights[:, :, :77], weights[:, :, 77:78] * 0, weights[:, :, 78:]], 2)


class AKeyCountedTwice(Explicit):
    """The gradient of key 77 is twice what it should be."""

    def gradients(self, dq: torch.Tensor, dk: torch.Tensor, dv: torch.Tensor) -> Any:
        return dq, torch.cat([dk[:, :, :77], dk[:, :, 77:78] * 2, dk[:, :, 78:]], 2), dv


BROKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "values-follow-the-output": ("dv-of-unnormalised-weights", BACKWARD),
    "keys-follow-the-queries": ("scale-twice-in-dk", BACKWARD),
    "value-gradients-add-up": ("dv-of-unnormalised-weights", BACKWARD),
    "key-gradients-cancel": ("delta-of-previous-row", BACKWARD),
    "values-of-one": ("softmax-not-normalised", USUAL),
    "queries-in-another-order": ("last-row-zero", USUAL),
    "keys-in-another-order": ("last-tile-dropped", USUAL),
    "first-tokens-alone": ("causal-ignored", {**USUAL, "mask": "causal"}),
    "last-queries-alone": (
        "top-left-for-bottom-right",
        {**USUAL, "mask": "causal", "seqlen_q": 37, "seqlen_kv": 131, "alignment": "bottom_right"},
    ),
    "last-sequence-alone": ("padding-of-first-sequence", PADDED),
    "another-sequence-beside": ("wrong-in-larger-batches", USUAL),
    "last-request-alone": (
        "requests-see-the-previous-last-key",
        RAGGED,
    ),
    "key-heads-repeated": ("group-by-modulo", {**USUAL, "heads_q": 6, "heads_kv": 2}),
    "keys-in-two-parts": ("lse-in-base2", USUAL),
    "latent-expanded": ("latent-twice", LATENT),
}


def test_each_identity_has_a_mistake_that_breaks_it() -> None:
    assert BROKEN.keys() == {name_of(identity) for identity in IDENTITIES}


@pytest.mark.parametrize("name", BROKEN)
def test_a_mistake_breaks_it(name: str) -> None:
    mutant, fields = BROKEN[name]
    assert look(make_case(**fields), MUTANTS[mutant])["ratios"][name] > 1


@pytest.mark.parametrize("mutant", [name for name in MUTANTS if name.startswith("latent-")])
def test_the_expanded_form_shows_each_mistake_with_a_latent(mutant: str) -> None:
    assert look(make_case(**LATENT), MUTANTS[mutant])["ratios"]["latent-expanded"] > 1


@pytest.mark.parametrize("steps", [Steps, Tiled, Explicit])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("inputs", ["normal", "needle", "large_logits"])
def test_what_is_right_breaks_none(steps: type[Steps], dtype: str, inputs: str) -> None:
    looked_at: set[str] = set()
    cases = [
        make_case(**fields, dtype=dtype, inputs=inputs)
        for fields in (
            {**BACKWARD, "heads_q": 4},
            {**BACKWARD, "heads_q": 4, "mask": "causal"},
            {**PADDED, "heads_q": 6},
            {**LATENT, "heads_q": 6},
            RAGGED,
        )
    ]
    for case in [*cases, make_case(**{**cases[0].to_dict(), "heads_kv": 2})]:
        seen = look(case, healthy(steps))
        assert seen["problem"] is None, case.label()
        looked_at |= seen["ratios"].keys()
    assert looked_at == BROKEN.keys()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mask": "causal & key_padding"}, {"first-tokens-alone", "last-sequence-alone", "keys-in-two-parts"}),
        (
            {"mask": "causal & key_padding", "seqlen_q": 37, "seqlen_kv": 131, "alignment": "bottom_right"},
            {"last-queries-alone", "last-sequence-alone"},
        ),
        ({"mask": "prefix_lm & key_padding", "prefix_len": 100}, {"last-sequence-alone", "last-queries-alone"}),
        ({"mask": "tree & key_padding"}, {"last-sequence-alone", "key-heads-repeated"}),
        ({"mask": "sliding_window & document & key_padding"}, {"last-sequence-alone", "key-heads-repeated"}),
        (
            {"mask": "key_padding", "seqlen_q": 37, "score_mod": "alibi", "alignment": "bottom_right"},
            {"last-queries-alone", "last-sequence-alone"},
        ),
        ({"mask": "causal & tensor", "seqlen_kv": 67, "seqlen_q": 67}, {"key-heads-repeated", "values-of-one"}),
        ({"mask": "tensor", "batch": 1}, {"key-heads-repeated", "value-gradients-add-up"}),
        ({"mask": "causal", "score_mod": "bias"}, {"key-heads-repeated", "key-gradients-cancel"}),
        ({"mask": "none", "score_mod": "bias", "batch": 1, "seqlen_kv": 2}, {"key-heads-repeated"}),
    ],
    ids=lambda value: value.get("mask") if isinstance(value, dict) else "",
)
def test_what_is_right_breaks_none_of_an_intersection(fields: dict[str, Any], expected: set[str]) -> None:
    case = make_case(**{**PADDED, "seqlen_kv": 131, "heads_q": 4, "heads_kv": 2, **fields})
    seen = look(case, healthy(Steps))
    assert seen["problem"] is None
    assert seen["ratios"].keys() >= expected


class TestBeyondWhatTheOracleJudges:
    """Sequences of which the oracle judges only a sample; its limits are lowered so that short ones suffice."""

    @pytest.fixture(autouse=True)
    def small_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (sampling, selection):
            monkeypatch.setattr(module, "SPARSE_PAIRS", 2**10)
        monkeypatch.setattr(sampling, "SPARSE_ROWS", 8)
        monkeypatch.setattr(selection, "FULL_PAIRS", 2**10)
        monkeypatch.setattr(selection, "SAMPLED_PAIRS", 2**12)
        monkeypatch.setattr(selection, "MIN_ROWS", 8)
        monkeypatch.setattr(selection, "MAX_KEYS", 16)

    @pytest.mark.parametrize(
        ("steps", "fields", "identity"),
        [
            (OneRowTooLarge, USUAL, "values-of-one"),
            (AQueryLost, BACKWARD, "values-follow-the-output"),
            (AKeyCountedTwice, BACKWARD, "keys-follow-the-queries"),
        ],
        ids=["a row", "a query", "a key"],
    )
    def test_an_identity_sees_what_the_sample_misses(
        self, steps: type[Steps], fields: dict[str, Any], identity: str
    ) -> None:
        case = make_case(**fields)
        mutant = Mutant("m", "", None, implementation_of(steps, "mutant/m"))
        assert trial(case, [mutant]) == {"m": None}
        assert look(case, mutant)["ratios"][identity] > 1

    @pytest.mark.parametrize("steps", [Tiled, Explicit])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("mask", ["none", "causal"])
    def test_what_is_right_breaks_none(self, steps: type[Steps], dtype: str, mask: str) -> None:
        seen = look(make_case(**BACKWARD, dtype=dtype, mask=mask), healthy(steps))
        assert seen["problem"] is None
        assert {"values-follow-the-output", "keys-follow-the-queries", "values-of-one"} <= seen["ratios"].keys()


def test_a_mistake_that_no_input_shows_is_caught_in_another_batch() -> None:
    """With a batch of one, the oracle alone cannot see it."""
    case = make_case(**USUAL)
    mutant = MUTANTS["wrong-in-larger-batches"]
    assert trial(case, [mutant]) == {mutant.name: None}
    assert "Another sequence in the batch" in str(trial(case, [mutant], identities=True)[mutant.name])


class TestCost:
    def test_beside_timing_no_other_case_is_called(self) -> None:
        allowance = Allowance(time_ns=math.inf, memory_bytes=math.inf, prepare_ns=0)
        seen = look(make_case(**BACKWARD), healthy(Steps), allowance)
        assert "values-of-one" in seen["ratios"]
        assert {n for n, reason in seen["left_out"].items() if "attnbench check only" in reason} >= {
            "another-sequence-beside",
            "keys-in-two-parts",
        }

    def test_without_time_only_sums_are_made(self) -> None:
        allowance = Allowance(time_ns=0, memory_bytes=math.inf, prepare_ns=math.inf)
        seen = look(make_case(**BACKWARD), healthy(Steps), allowance)
        sums = {name_of(identity) for identity in IDENTITIES if identity.needs == "nothing"}
        assert seen["ratios"].keys() == sums

    def test_without_memory_none_is_looked_at(self) -> None:
        seen = look(
            make_case(**BACKWARD),
            healthy(Steps),
            Allowance(time_ns=math.inf, memory_bytes=1000, prepare_ns=math.inf),
        )
        assert seen["ratios"] == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"strides": "transposed"},
        {"strides": "expanded_kv"},
        {"strides": "summed"},
        {"mask": "document"},
        {"score_mod": "sink"},
        {"score_mod": "softcap", "softcap": 2.0},
        {"seqlen_q": 1},
        {"operator": "multi_head_attention"},
    ],
    ids=str,
)
def test_inputs_are_left_as_they_were(fields: dict[str, Any]) -> None:
    case = make_case(**{**BACKWARD, **fields})
    worker = Worker(healthy(Steps).implementation, repeat_ns=0)
    Prepare(case=case, device="cpu").serve(worker)
    FirstCalls().serve(worker)
    before = {name: getattr(worker.session.placed(), name).clone() for name in ("q", "k", "v", "dout")}
    CheckIdentities(allowance=EVERYTHING).serve(worker)
    for name, tensor in before.items():
        assert torch.equal(getattr(worker.session.placed(), name), tensor), name


@pytest.mark.parametrize("identity", IDENTITIES, ids=name_of)
def test_each_says_what_must_hold(identity: Any) -> None:
    assert 30 < len(sentence_of(identity)) < 120


def test_the_package_knows_no_framework() -> None:
    import attnbench.identities as package

    for path in Path(package.__file__).parent.glob("*.py"):
        assert "import torch" not in path.read_text()
