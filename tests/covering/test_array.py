"""Every possible pair of levels of an implementation is in one of its cases, which cannot be predicted."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from attnbench import Case, attention
from attnbench.cases.choices import CHOICES
from attnbench.covering.array import Array, Space, cover
from attnbench.covering.axes import AXES, levels_of
from attnbench.covering.contradictions import contradicts, with_needs
from attnbench.covering.draw import draw, seconds
from attnbench.covering.tuples import codes_of, tuples
from attnbench.mutants.mutant import Mutant, implementation_of
from attnbench.mutants.steps import Explicit, Plan
from attnbench.mutants.trial import trial
from attnbench.registry.implementation import Declaration
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from attnbench.worker.call import refusal

RIGHT = implementation_of(Explicit, "mutant/right")
NEARLY_ALL = RIGHT.declaration
SMALL = attention("small/layer", operators=["multi_head_attention"])(lambda q, k, v, case: q).declaration
MOST = 2_000


def array_of(said: Declaration, seed: int, strength: int = 2) -> Array:
    space = Space(said=said, device="cpu", seed=seed, takes=lambda cases: [True] * len(cases))
    return cover(space, strength, random.Random(seed), MOST)


def taken(cases: Sequence[Case]) -> list[bool]:
    return [refusal(RIGHT, case, "cpu") is None for case in cases]


@pytest.fixture(scope="module")
def array() -> Array:
    """Return an array without gradients with projections, which the hook refuses beyond the declaration."""
    return cover(Space(said=NEARLY_ALL, device="cpu", seed=1, takes=taken), 2, random.Random(1), MOST)


@pytest.fixture(scope="module")
def small() -> Array:
    return array_of(SMALL, seed=1)


def pairs_in(cases: Iterable[Case]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Return the pairs of levels in cases, collected one by one."""
    found = set()
    for case in cases:
        levels = list(levels_of(case).items())
        found |= {(one, other) for place, one in enumerate(levels) for other in levels[place + 1 :]}
    return found


def in_words(possible: NDArray[np.bool_]) -> set[tuple[tuple[str, str], ...]]:
    return {tuple(levels.items()) for levels in tuples(2).levels(np.flatnonzero(possible).tolist())}


def test_every_possible_pair_is_in_a_case(array: Array) -> None:
    assert pairs_in(array.cases) == in_words(array.possible[2])


@pytest.mark.parametrize("field", ["mode", "dtype", "mask", "score_mod", "kv_cache", "kv_dtype"])
def test_all_that_is_declared_is_in_a_case(field: str, array: Array) -> None:
    declared = {*getattr(NEARLY_ALL, f"{field}s")}
    assert declared <= {getattr(case, field) or "none" for case in array.cases}


def test_pairs_take_few_cases(array: Array) -> None:
    """Pages exclude gradients and other caches, so each mask, and each other level, needs further cases for them."""
    unpaged = dataclasses.replace(NEARLY_ALL, kv_caches=("dense", "latent"))
    fewer = cover(Space(said=unpaged, device="cpu", seed=1, takes=taken), 2, random.Random(1), MOST)
    assert len(fewer.cases) < 400
    assert len(array.cases) - len(fewer.cases) < 4 * len(CHOICES["mask"])


def test_the_search_ends_although_a_rare_pair_is_never_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a pair comes in the case in which it was seen."""
    said = dataclasses.replace(
        NEARLY_ALL, masks=("none", "tree"), mask_intersections=False, score_mods=("none",), modes=("forward",),
        score_mod_combinations=False, kv_caches=("dense",), kv_dtypes=("none",), operators=("attention",),
    )  # fmt: skip
    drawn = Space.draws

    def by_chance_alone(space: Space, wanted: Sequence[Mapping[str, str]], rng: random.Random) -> list[Case | None]:
        cases = drawn(space, wanted, rng)  # a case that grows wants more levels than those that explore
        return [
            None if levels.get("mask") == "tree" and len(levels) > 3 else case
            for levels, case in zip(wanted, cases, strict=True)
        ]

    monkeypatch.setattr(Space, "draws", by_chance_alone)
    found = cover(Space(said=said, device="cpu", seed=1, takes=taken), 2, random.Random(1), MOST)
    assert any("tree" in case.mask_kinds for case in found.cases)
    assert pairs_in(found.cases) == in_words(found.possible[2])


def test_a_row_less_is_a_pair_less(array: Array) -> None:
    """The last case was added for a pair that no other case has."""
    assert pairs_in(array.cases[:-1]) < in_words(array.possible[2])


def test_what_counts_as_impossible_is_never_drawn(array: Array) -> None:
    rng = random.Random("another")
    drawn = [case for _ in range(4_000) if (case := draw({}, NEARLY_ALL, "cpu", 7, rng)) is not None]
    drawn = [case for case in drawn if refusal(RIGHT, case, "cpu") is None]
    assert len(drawn) > 800
    assert pairs_in(itertools.compress(drawn, taken(drawn))) <= in_words(array.possible[2])


def test_what_a_case_has_never_counts_as_a_contradiction(array: Array) -> None:
    rng = random.Random("some of its levels")
    for case in array.cases:
        levels = levels_of(case)
        some = dict(rng.sample(sorted(levels.items()), 3))
        assert not contradicts(levels, NEARLY_ALL), case.label()
        assert not contradicts(some, NEARLY_ALL), (some, case.label())


def test_every_case_has_what_its_levels_need() -> None:
    """Checked on the cases of edge-shapes, which were not drawn."""
    planned = expand(load_scenario("edge-shapes"), {"seed": ["1"]})
    assert len(planned) > 50
    for levels in (levels_of(one.case) for one in planned if not one.case.without):
        assert with_needs(levels) == levels


@pytest.mark.parametrize(
    "levels",
    [
        {"dtype": "float8_e4m3fn", "mode": "forward"},
        {"mask": "causal", "window": "left"},
        {"mask": "document", "documents": "one", "lengths": "more keys"},
        {"operator": "multi_head_attention", "kv_cache": "latent"},
        {"seqlen_q": "1", "end of queries": "0 of 128"},
        {"lengths": "equal", "seqlen_q": "1", "seqlen_kv": "2 to 8"},
        {"heads_q": "24 and more", "seqlen_q": "1025 and more", "seqlen_kv": "257 to 1024"},
    ],
)
def test_contradictions_are_known_and_never_drawn(levels: dict[str, str]) -> None:
    said = dataclasses.replace(NEARLY_ALL, dtypes=("float32",))
    rng = random.Random(0)
    assert not any(draw(levels, said, "cpu", 1, rng) for _ in range(200))
    assert contradicts(levels, said)


def test_another_seed_finds_the_same_pairs_in_other_cases(small: Array) -> None:
    other = array_of(SMALL, seed=2)
    assert not (other.possible[2] ^ small.possible[2]).any()
    assert not {case.case_id for case in other.cases} & {case.case_id for case in small.cases}


def test_the_same_seed_makes_the_same_cases(small: Array) -> None:
    assert array_of(SMALL, seed=1).cases == small.cases


def test_every_case_is_one_that_is_declared_and_quick(array: Array) -> None:
    assert {NEARLY_ALL.refuses(case, "cpu") for case in array.cases} == {None}
    assert max(map(seconds, array.cases)) < 1
    assert {case.seed for case in array.cases} == {1}


def test_what_a_hook_refuses_is_neither_covered_nor_counted() -> None:
    space = Space(said=SMALL, device="cpu", seed=3, takes=lambda cases: [case.head_dim % 64 == 0 for case in cases])
    array = cover(space, 2, random.Random(3), MOST)
    assert {case.head_dim for case in array.cases} == {64, 128, 192, 256}
    assert pairs_in(array.cases) == in_words(array.possible[2])


@pytest.mark.slow
def test_every_triple_of_a_small_declaration_is_in_a_case(small: Array) -> None:
    array = array_of(SMALL, seed=4, strength=3)
    assert (tuples(3).had_by(codes_of(array.cases)) == array.possible[3]).all()
    assert not (tuples(3).had_by(codes_of(array.cases[:-1])) == array.possible[3]).all()
    assert tuples(3).had_by(codes_of(small.cases)).sum() < array.possible[3].sum()
    assert not (array.possible[3] & ~small.possible[3]).any()  # no triple is possible whose pairs are not


def test_the_number_of_a_tuple_is_its_own() -> None:
    for strength in (1, 2, 3):
        some = np.arange(0, tuples(strength).count, 997)
        assert (tuples(strength).numbers(*tuples(strength).parts(some)) == some).all()
    codes = np.array([[len(axis.levels) - 1 for axis in AXES]])
    assert tuples(2).of(codes)[0, -1] == tuples(2).count - 1


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("number", range(20))
def test_a_kernel_that_is_wrong_for_a_pair_alone_is_caught(number: int, array: Array) -> None:
    """Tried for a sample of pairs, in outputs or only in gradients; in all other cases the kernel is right."""
    pair = random.Random(number).choice(sorted(pairs_in(array.cases)))

    def is_there(case: Case) -> bool:
        return dict(pair).items() <= levels_of(case).items()

    there = sorted(filter(is_there, array.cases), key=seconds)
    of_gradients = dict(pair).get("mode", ("forward", "backward")[number % 2]) == "backward"
    in_gradients = of_gradients and any(case.needs_gradients for case in there)  # caches, for example, have none

    class WrongThere(Explicit):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
            out, lse = super().forward(q, k, v, case, plan)
            return (out * 1.25 if is_there(case) and not in_gradients else out), lse

        def backward(
            self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, case: Case, plan: Plan
        ) -> tuple[Tensor, ...]:
            dq, dk, dv, *dbias = super().backward(dout, q, k, v, out, lse, case, plan)
            return dq, dk, (dv * 1.25 if is_there(case) and in_gradients else dv), *dbias

    mutant = Mutant("wrong-there", "", None, implementation_of(WrongThere, "mutant/wrong-there"))
    assert any(any(trial(case, [mutant]).values()) for case in there), f"{pair}: {[case.label() for case in there]}"
    elsewhere = min(itertools.filterfalse(is_there, array.cases), key=seconds)
    assert not any(trial(elsewhere, [mutant]).values())
