"""The soak finds wrong implementations, continues where it was stopped, and reports what it covered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench import make_case
from attnbench.mutants.collection import mutants
from attnbench.mutants.mutant import implementation_of
from attnbench.mutants.steps import Steps
from attnbench.sweep.load import bundled_scenarios
from tests.conftest import REPOSITORY
from tests.soak import VALUES_OF_A_SEED
from tests.soak.__main__ import together
from tests.soak.coverage import coverage
from tests.soak.units import Judge, Report, added, bounded, cases_of, units

CASE = make_case(heads_q=2, seqlen_q=65, head_dim=16, mask="causal", mode="backward")

[UNIT] = units([CASE], [0])


def judge(*names: str) -> Judge:
    """Judge mutants with these names, and a correct implementation, on a unit."""
    judged = Judge(UNIT)
    for mutant in mutants():
        if mutant.name in names:
            judged(mutant.implementation, 60)
    judged(implementation_of(Steps, "healthy/one"), 60)
    return judged


def test_what_is_wrong_is_an_alarm_and_what_is_right_is_none() -> None:
    report = judge("causal-ignored").report
    assert {alarm["implementation"] for alarm in report.alarms} == {"mutant/causal-ignored"}
    assert report.pairs["healthy/one"] == VALUES_OF_A_SEED
    assert 0 < report.worst["healthy/one dv float32"] < 1 < report.worst["mutant/causal-ignored out float32"]


def test_what_only_an_identity_sees_is_an_alarm_too() -> None:
    [alarm] = judge("wrong-in-larger-batches").report.alarms
    assert "another-sequence-beside" in alarm["sentence"]


def test_a_slow_implementation_gets_fewer_values() -> None:
    judged = Judge(UNIT)
    judged(implementation_of(Steps, "healthy/one"), 0)
    assert judged.report.pairs == {"healthy/one": 2}


def test_what_is_compiled_may_get_many_values_from_one_seed() -> None:
    [many] = units([CASE], [0], values=VALUES_OF_A_SEED + 2)
    judged = Judge(many)
    judged(implementation_of(Steps, "healthy/one"), 60)
    assert judged.report.pairs == {"healthy/one": VALUES_OF_A_SEED + 2}


def test_values_differ_from_seed_to_seed_and_within_one() -> None:
    many = units([CASE], range(3))
    assert len({unit.name for unit in many}) == 3
    assert [unit.case.seed for unit in many] == [0, 1, 2]


def test_a_soak_that_is_ended_early_has_seen_every_case_and_the_small_ones_with_all_seeds() -> None:
    cases = cases_of(["edge-shapes"], 720)
    planned = [unit.case for unit in units(cases, [1, 2, 3])]
    first, others = planned[: len(cases)], planned[len(cases) :]
    assert {case.seed for case in first} == {1}
    assert {case.label() for case in first} == {case.label() for case in cases}
    assert [case.seed for case in others[:4]] == [2, 3, 2, 3]
    assert others[0].seqlen_q * others[0].seqlen_kv < others[-1].seqlen_q * others[-1].seqlen_kv


def test_the_tables_say_for_each_scenario_how_much_each_implementation_saw() -> None:
    one, *_, last = cases_of(["edge-shapes"], 720)
    reports = [
        *(Report(f"{one.case_id}/{seed}", pairs={"a/b": 10, "c/d": 10}) for seed in (1, 2)),
        Report(f"{last.case_id}/1", pairs={"a/b": 4}),
    ]
    assert list(coverage(["edge-shapes"], 720, reports))[1:] == [
        "    a/b                        1 cases with 20 sets of values, 1 with 4",
        "    c/d                        1 cases with 20 sets of values",
    ]


def test_what_two_commands_saw_of_a_unit_is_one_report() -> None:
    both = together([Report("x/1", pairs={"a/b": 10}), Report("x/1", pairs={"c/d": 2}), Report("y/1")])
    assert {unit: report.pairs for unit, report in both.items()} == {"x/1": {"a/b": 10, "c/d": 2}, "y/1": {}}


def test_reports_add_up() -> None:
    one = judge().report
    total = added([one, one])
    assert total.pairs == {"healthy/one": 2 * VALUES_OF_A_SEED}
    assert total.worst == one.worst


@pytest.mark.parametrize("scenario", sorted(bundled_scenarios()))
def test_cases_are_bounded_and_keep_their_kind(scenario: str) -> None:
    for case in cases_of([scenario], 720):
        pairs = case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv
        assert pairs <= 720**2 * max(1, case.heads_q // case.heads_kv // 4)  # groups of heads are not cut


def test_a_long_case_becomes_a_short_one_with_its_group_and_mask() -> None:
    long = make_case(heads_q=32, heads_kv=8, seqlen_q=8192, mask="sliding_window", window_left=4096, dtype="bfloat16")
    short = bounded(long, 720)
    assert short.heads_q // short.heads_kv == 4
    assert (short.mask, short.dtype, short.seqlen_q) == ("sliding_window", "bfloat16", 241)
    assert short.window_left is not None
    assert short.window_left < short.seqlen_q


def test_the_same_command_goes_on_where_it_ended(tmp_path: Path) -> None:
    scenario = tmp_path / "few.toml"
    scenario.write_text(
        'description = "few"\nstages = ["agreement"]\n[defaults]\nheads = 2\nseqlen = 17\nhead_dim = 8\n'
    )
    out = tmp_path / "soak.jsonl"

    def soak(seeds: int) -> str:
        command = [sys.executable, "-m", "tests.soak", "--scenario", str(scenario), "-i", "^naive/numpy$"]
        done = subprocess.run(
            [*command, "--seeds", str(seeds), "--out", str(out)],
            cwd=REPOSITORY, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    assert "1 of 1 (case, seed)" in soak(1)
    first = out.read_text()
    said = soak(2)
    assert out.read_text().startswith(first)
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 2
    assert "2 of 2 (case, seed), 10 sets of values in each; 1 cases, each with 2 to 2 seeds" in said
    assert "       20  naive/numpy                1 cases, each with 2 to 2 seeds" in said
    assert "0 disagreed" in said
