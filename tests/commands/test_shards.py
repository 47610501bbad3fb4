"""``check --shard K/N``: parts of the same cases."""

from __future__ import annotations

import pytest

import attnbench
from tests.conftest import Command, records_of

SMALL = ("-i", "^naive/(numpy|torch)$", "-a", "seqlen=8,16,24", "-a", "heads=1", "-a", "head_dim=8")


def test_parts_are_the_whole_and_no_case_is_divided(attnbench: Command) -> None:
    parts = []
    for number in (1, 2):
        finished = attnbench("check", *SMALL, "--shard", f"{number}/2", "--out", f"{number}.jsonl")
        assert finished.code == 0, finished.err
        parts.append([(r["case_id"], r["implementation"]) for r in records_of(attnbench.folder / f"{number}.jsonl")])
    assert [len(part) for part in parts] == [4, 2]
    assert len({*parts[0], *parts[1]}) == 6
    assert not {case for case, _ in parts[0]} & {case for case, _ in parts[1]}


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "1/2/3", "x"])
def test_what_is_no_part_is_refused(shard: str) -> None:
    with pytest.raises(attnbench.UsageError, match="a shard is K/N, from 1/N to N/N"):
        attnbench.check(axis={"seqlen": 8}, shard=shard)


def test_a_part_that_would_be_empty_is_refused() -> None:
    with pytest.raises(attnbench.UsageError, match="shard 2/2 is empty: there are 1 cases"):
        attnbench.plan(axis={"seqlen": 8}, shard="2/2", only_agreement=True)


def test_parts_of_cases_that_attnbench_chooses_need_a_seed() -> None:
    with pytest.raises(attnbench.UsageError, match="--shard needs --seed"):
        attnbench.check(include="^naive/numpy$", shard="1/2")
