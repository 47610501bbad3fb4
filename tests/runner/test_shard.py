"""Shards of a plan."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.cases.case import Case, make_case
from attnbench.runner.planning.shard import Shard, ShardError, missing_shards

LENGTHS = st.lists(st.integers(1, 2**15), min_size=1, max_size=40, unique=True)


def cases_of(lengths: list[int]) -> dict[str, Case]:
    made = [make_case(seqlen_q=length) for length in lengths]
    return {case.case_id: case for case in made}


@given(LENGTHS, st.integers(1, 40), st.randoms(use_true_random=False))
def test_every_case_is_in_one_shard_whatever_order_each_machine_has_them_in(
    lengths: list[int], of: int, generator: random.Random
) -> None:
    of = min(of, len(lengths))
    taken: list[str] = []
    for index in range(1, of + 1):
        generator.shuffle(lengths)
        taken += Shard(index, of).cases(cases_of(lengths))
    assert sorted(taken) == sorted(cases_of(lengths))


def test_shards_have_about_as_much_to_do() -> None:
    cases = cases_of([16_384, 8192, 8191, 8190, 8189, 64, 32, 16])
    shares = [Shard(index, 2).cases(cases) for index in (1, 2)]
    (long,) = (share for share in shares if cases_of([16_384]).keys() <= share)
    quarters = cases_of([8192, 8191, 8190, 8189]).keys()
    assert not quarters & long, "16,384 tokens cost as much as four times 8,192"
    assert quarters <= shares[0] | shares[1]


def test_more_shards_than_cases_are_refused() -> None:
    with pytest.raises(ShardError, match="3 shards are more than the 2 cases"):
        Shard(1, 3).cases(cases_of([64, 128]))


@pytest.mark.parametrize(
    "text", ["", "3", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1/9999999", "\u0661/2", " 1/2"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ShardError, match="shard"):
        Shard.parsed(text)


def test_a_shard_reads_as_it_is_written() -> None:
    assert Shard.parsed("3/8") == Shard(3, 8)
    assert str(Shard(3, 8)) == "3/8"


def test_missing_shards_are_told() -> None:
    assert missing_shards(4, [Shard(2, 4), Shard(4, 4)]) == [1, 3]
