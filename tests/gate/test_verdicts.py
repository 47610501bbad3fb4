"""The gate's verdicts from run files: each verdict with its message and exit code."""

from __future__ import annotations

import pytest

from attnbench.gate.judge.statistics import Rules
from tests.gate.conftest import CELLS, MIB, ONE, Imagined, of_one

SAME = 2 * len(CELLS)


def test_unchanged_code_passes_and_says_what_it_would_have_found(imagined: Imagined) -> None:
    result = imagined()
    assert result.exit_code == 0
    assert [one.verdict for one in result.verdicts] == ["same"] * SAME
    assert [one.verdict for one in result.common] == ["same"]
    assert "a slow-down of 4." in of_one(result).sentence
    assert "Verdicts: 61 same. A slow-down of " in result.sentence


def test_a_slow_down_is_found_in_fresh_pairs_and_fails(imagined: Imagined) -> None:
    result = imagined(slower=0.10)
    one = of_one(result)
    assert result.exit_code == 1
    assert one.verdict == "slower"
    assert one.ratio == pytest.approx(1.10, abs=0.02)
    assert one.pairs == 8
    assert one.q is not None
    assert one.q < 0.05
    assert one.sentence.startswith(("9.", "10."))
    assert "confirmed in 8 fresh pairs of processes" in one.sentence
    assert sum(other.verdict != "same" for other in result.verdicts) == 1


def test_a_speed_up_is_found_and_passes(imagined: Imagined) -> None:
    result = imagined(slower=-0.10)
    assert of_one(result).verdict == "faster"
    assert result.exit_code == 0


def test_a_change_of_everything_fails_although_no_cell_stands_out(imagined: Imagined) -> None:
    result = imagined(everything_slower=0.10)
    assert [one.verdict for one in result.common] == ["slower"]
    assert result.common[0].sentence.startswith("all cells together: ")
    assert {one.verdict for one in result.verdicts} == {"same"}
    assert result.exit_code == 1


def test_a_sure_difference_of_few_microseconds_does_not_count(imagined: Imagined) -> None:
    one = of_one(imagined(slower=0.10, median_ns=30_000))
    assert one.verdict == "same"
    assert "differences below 5.00 µs do not count" in one.sentence


def test_a_cell_whose_noise_floor_is_above_the_change_is_judged_by_the_floor(imagined: Imagined) -> None:
    name = f"{ONE[0]} {ONE[1]} cpu"
    one = of_one(imagined(slower=0.10, floors={name: 0.15}))
    assert one.verdict == "same"
    assert one.delta == 0.15


def test_noise_in_which_a_tenth_could_hide_cannot_be_passed(imagined: Imagined) -> None:
    result = imagined(noise=0.2)
    assert result.exit_code == 6
    assert {v.verdict for v in result.verdicts if v.metric == "time"} == {"ambiguous"}
    assert "too noisy to tell" in of_one(result).sentence
    assert any("are noisy" in note for note in result.notes)


@pytest.mark.parametrize(
    ("base", "head", "verdict", "code"),
    [
        (3 * MIB, 4 * MIB, "bigger", 1),
        (4 * MIB, 3 * MIB, "smaller", 0),
        (3 * MIB, 3 * MIB + 255 * 1024, "same", 0),  # less than twice the resolution
        (3 * MIB, 3 * MIB + 257 * 1024, "bigger", 1),
        (100 * MIB, 100 * MIB + 500 * 1024, "same", 0),  # less than half a percent
        (100 * MIB, 100 * MIB + 600 * 1024, "bigger", 1),
    ],
)
def test_memory_is_judged_without_statistics(
    imagined: Imagined, base: int, head: int, verdict: str, code: int
) -> None:  # fmt: skip
    result = imagined(base={"memory_peak_bytes": base}, head={"memory_peak_bytes": head})
    assert of_one(result, "memory").verdict == verdict
    assert result.exit_code == code


def test_memory_says_how_much(imagined: Imagined) -> None:
    one = of_one(imagined(head={"memory_peak_bytes": 4 * MIB}), "memory")
    assert one.sentence == "1.00 MiB more peak memory: 4.00 MiB instead of 3.00 MiB"
    assert one.ratio == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("base", "head", "verdict", "code", "words"),
    [
        ("ok", "wrong", "wrong", 1, "it was right on base"),
        ("wrong", "wrong", "wrong", 1, "on base it was wrong as well"),
        ("ok", "unsupported", "lost", 1, "is unsupported on head: why"),
        ("ok", "crashed", "lost", 1, "is crashed on head: why"),
        ("ok", "unavailable", "lost", 1, "is unavailable on head"),
        ("ok", "invalid", "invalid", 6, "is invalid on head"),
        ("undecided", "undecided", "not_comparable", 6, "is undecided on both sides"),
        ("ok", "undecided", "lost", 1, "is undecided on head"),
        ("unsupported", "ok", "gained", 0, "was unsupported on base"),
        ("wrong", "ok", "gained", 0, "was wrong on base"),
        ("crashed", "crashed", "not_measured", 4, "is crashed on both sides"),
        ("timeout", "unsupported", "not_measured", 4, "timeout on base"),
        ("invalid", "unsupported", "not_measured", 5, "invalid on base"),
    ],
)
def test_a_cell_that_is_not_ok_on_both_sides_has_one_verdict_on_its_outcome(
    imagined: Imagined, base: str, head: str, verdict: str, code: int, words: str
) -> None:
    given: dict[str, dict[str, str]] = {"ok": {}}
    result = imagined(
        base=given.get(base, {"status": base, "reason": "why"}), head=given.get(head, {"status": head, "reason": "why"})
    )
    found = [one for one in result.verdicts if (one.case_id, one.implementation) == ONE]
    assert [(one.metric, one.verdict) for one in found] == [("outcome", verdict)]
    assert words in found[0].sentence
    assert found[0].repro
    assert result.exit_code == code


def test_a_cell_that_has_disappeared_is_lost(imagined: Imagined) -> None:
    result = imagined(keep=lambda side, key: not (side == "head" and key == ONE))
    assert of_one(result, "outcome").verdict == "lost"
    assert of_one(result, "outcome").sentence == "it was ok on base and has disappeared"
    assert result.exit_code == 1


def test_a_new_cell_is_gained(imagined: Imagined) -> None:
    result = imagined(keep=lambda side, key: not (side == "base" and key == ONE))
    assert of_one(result, "outcome").verdict == "gained"
    assert result.exit_code == 0


def test_what_neither_side_claims_is_counted_and_not_judged(imagined: Imagined) -> None:
    refused = {"status": "unsupported", "reason": "not declared"}
    result = imagined(base=refused, head=refused)
    assert result.unsupported == 1
    assert len(result.verdicts) == SAME - 2
    assert result.exit_code == 0


def test_having_measured_nothing_is_no_pass(imagined: Imagined) -> None:
    absent = {"status": "unavailable", "reason": "no such device"}
    result = imagined(keep=lambda side, key: key == ONE, base=absent, head=absent)
    assert result.judged == []
    assert result.exit_code == 5


def test_a_regression_outranks_everything_else(imagined: Imagined) -> None:
    result = imagined(noise=0.2, head={"status": "wrong", "reason": "why"})
    assert "ambiguous" in {one.verdict for one in result.verdicts}
    assert result.exit_code == 1


def test_fewer_rounds_make_the_smallest_detectable_change_larger(imagined: Imagined) -> None:
    many, few = of_one(imagined()), of_one(imagined(rules=Rules(screen_rounds=3, confirm_rounds=3)))
    assert many.detectable is not None
    assert few.detectable is not None
    assert few.detectable > many.detectable


def test_a_scenario_without_time_is_judged_by_agreement(imagined: Imagined) -> None:
    nothing = {"time_median_ns": None, "memory_peak_bytes": None, "reason": "agreement only"}
    result = imagined(base=nothing, head=nothing, keep=lambda side, key: key == ONE)
    (only,) = result.verdicts
    assert (only.metric, only.verdict) == ("outcome", "same")
    assert only.sentence == "it agrees with the oracle on both sides; not timed: agreement only"
    assert result.exit_code == 0


def test_a_cell_that_was_timed_on_one_side_only_is_not_measured(imagined: Imagined) -> None:
    result = imagined(head={"time_median_ns": None})
    assert of_one(result).verdict == "not_measured"
    assert of_one(result).sentence == "only 0 pairs of processes were timed"
    assert result.exit_code == 5
