"""Speed-ups name their baseline, have an interval, and never hide a missing cell."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.cases.case import make_case
from attnbench.views.compare import CompareError, Comparison, compare_implementations, compare_runs, geometric_mean
from attnbench.views.compare_view import view_of
from attnbench.views.document import as_json, markdown
from attnbench.views.show import show
from tests.views.conftest import failed, record, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile

CASES = [make_case(seqlen_q=128 * 2**i) for i in range(4)]


def times(name: str, *medians: float, **given: Any) -> list[dict[str, Any]]:
    """Return records of one implementation's times at the first lengths."""
    return [timed(case, name, median, **given) for case, median in zip(CASES, medians, strict=False)]


def mean_of(comparison: Comparison, name: str) -> tuple[float | None, int, int]:
    (mean,) = [mean for mean in comparison.means if mean.implementation == name]
    return mean.value, mean.pairs, mean.cells


def test_a_speed_up_is_the_baselines_time_over_the_implementations(run_of: Callable[..., RunFile]) -> None:
    comparison = compare_implementations(run_of([*times("slow/plain", 8e6), *times("fast/fused", 2e6)]))
    (pair,) = comparison.pairs
    assert (pair.speedup.value, pair.difference) == (4, "faster")
    assert pair.speedup.low == pytest.approx(4 * 0.99 / 1.01)
    assert comparison.reference == "slow/plain"


def test_the_baseline_may_be_named(run_of: Callable[..., RunFile]) -> None:
    run = run_of([*times("slow/plain", 8e6), *times("fast/fused", 2e6)])
    (pair,) = compare_implementations(run, "fast/fused").pairs
    assert (pair.subject.implementation, pair.speedup.value, pair.difference) == ("slow/plain", 0.25, "slower")


@pytest.mark.parametrize("scenario", [{"name": "s"}, {"name": "s", "baseline": "not/run"}])
def test_where_the_scenarios_baseline_was_not_run_it_is_what_was_timed_most_often(
    run_of: Callable[..., RunFile], scenario: dict[str, str]
) -> None:
    often = [timed(make_case(seqlen_q=tokens), "often/timed", 1e6) for tokens in (64, 128)]
    run = run_of([timed(make_case(seqlen_q=64), "a/once", 1e6), *often], scenario=scenario)
    assert compare_implementations(run).reference == "often/timed"


def test_speed_ups_of_a_plugin_are_over_what_it_was_run_beside(run_of: Callable[..., RunFile]) -> None:
    """``-i a/mine -i torch/sdpa`` with a scenario whose baseline is neither."""
    origin = {"origin": {"kind": "file", "target": "mine.py"}}
    found = {"a/mine": origin, "torch/sdpa": {}}
    run = run_of([*times("a/mine", 1e6), *times("torch/sdpa", 2e6)], scenario={"name": "s"}, implementations=found)
    assert compare_implementations(run).reference == "torch/sdpa"
    assert "speed-up over torch/sdpa" in markdown(show(run))
    alone = run_of(times("a/mine", 1e6), scenario={"name": "s"}, implementations={"a/mine": origin})
    assert compare_implementations(alone).reference == "a/mine"
    assert "speed-up" not in markdown(show(alone))


def test_where_nothing_was_timed_nothing_is_compared(run_of: Callable[..., RunFile]) -> None:
    run = run_of([record(make_case(), "a/a")])
    with pytest.raises(CompareError, match="nothing was timed"):
        compare_implementations(run)


def test_the_geometric_mean_is_over_the_cells_that_both_timed_and_says_over_how_many(
    run_of: Callable[..., RunFile],
) -> None:
    wrong = failed(CASES[2], "fast/fused", "wrong", "out is off")
    run = run_of([*times("slow/plain", 8e6, 8e6, 8e6), *times("fast/fused", 4e6, 1e6), wrong])
    comparison = compare_implementations(run)
    value, pairs, cells = mean_of(comparison, "fast/fused")
    assert value == pytest.approx(math.sqrt(2 * 8))
    assert (pairs, cells) == (2, 3)
    (missing,) = comparison.missing
    assert (missing.cell.case_id, missing.why) == (CASES[2].case_id, "is wrong: out is off")


def test_a_case_that_the_baseline_failed_is_missing_for_all_and_the_baseline_is_blamed(
    run_of: Callable[..., RunFile],
) -> None:
    run = run_of([failed(CASES[0], "slow/plain", "timeout", "too slow"), *times("fast/fused", 1e6), *times("b/b", 1e6)])
    comparison = compare_implementations(run)
    assert comparison.pairs == ()
    assert {one.why for one in comparison.missing} == {"the baseline slow/plain is timeout: too slow"}


def test_a_case_that_the_baseline_never_saw_is_missing(run_of: Callable[..., RunFile]) -> None:
    comparison = compare_implementations(run_of([*times("slow/plain", 1e6), *times("fast/fused", 1e6, 1e6)]))
    assert [one.why for one in comparison.missing] == ["the baseline slow/plain has no record"]


def test_agreement_without_time_is_not_timed(run_of: Callable[..., RunFile]) -> None:
    untimed: dict[str, Any] = {
        "time_samples_ns": None,
        "time_median_ns": None,
        "time_ci_low_ns": None,
        "time_ci_high_ns": None,
    }
    run = run_of([*times("slow/plain", 1e6), timed(CASES[0], "fast/fused", 1.0, **untimed)])
    assert [one.why for one in compare_implementations(run).missing] == ["was not timed"]


def test_means_over_unlike_cases_warn_against_ranking(run_of: Callable[..., RunFile]) -> None:
    warning = "The geometric means stand over different cases for different implementations: do not rank by them."
    unlike = run_of([*times("slow/plain", 1e6, 1e6), *times("a/a", 1e6, 1e6), *times("b/b", 1e6)], name="1.jsonl")
    alike = run_of([*times("slow/plain", 1e6, 1e6), *times("a/a", 1e6, 1e6), *times("b/b", 1e6, 1e6)], name="2.jsonl")
    assert warning in compare_implementations(unlike).notes
    assert warning not in compare_implementations(alike).notes


def test_a_device_is_compared_with_itself_only(run_of: Callable[..., RunFile]) -> None:
    run = run_of(
        [
            *times("slow/plain", 8e6),
            *times("slow/plain", 4e3, device="cuda"),
            *times("fast/fused", 2e6),
            *times("fast/fused", 2e3, device="cuda"),
        ]
    )
    gains = {pair.subject.device: pair.speedup.value for pair in compare_implementations(run).pairs}
    assert gains == {"cpu": 4, "cuda": 2}


def test_notes_say_where_intervals_come_from(run_of: Callable[..., RunFile]) -> None:
    few = compare_implementations(run_of([*times("slow/plain", 8e6), *times("fast/fused", 2e6)], name="1.jsonl"))
    assert few.notes == (
        "Intervals of speed-ups: from the intervals of both medians (1 cell).",
        "No interval from fewer than three processes sees how processes differ; --replicates 3 does.",
    )
    lines = [line for i in range(6) for name in ("slow/plain", "fast/fused") for line in times(name, 1e6, replicate=i)]
    many = compare_implementations(run_of(lines, name="2.jsonl"))
    assert many.notes == ("Intervals of speed-ups: bootstrap over 6 processes (1 cell).",)


def test_two_runs_are_compared_cell_by_cell(run_of: Callable[..., RunFile]) -> None:
    before = run_of([*times("a/a", 4e6, 4e6, 4e6), *times("b/b", 1e6)], name="before.jsonl")
    after = run_of([*times("a/a", 2e6, 4e6), *times("c/c", 1e6)], name="after.jsonl")
    comparison = compare_runs(before, after)
    assert [(pair.speedup.value, pair.difference) for pair in comparison.pairs] == [
        (2, "faster"),
        (1, "within noise"),
    ]
    assert sorted(
        (one.cell.implementation, one.why.replace(str(after.path), "AFTER")) for one in comparison.missing
    ) == [
        ("a/a", "no record in AFTER"),
        ("b/b", "no record in AFTER"),
        ("c/c", f"no record in {before.path}"),
    ]
    mean, counted, cells = mean_of(comparison, "a/a")
    assert mean == pytest.approx(math.sqrt(2))
    assert (counted, cells) == (2, 3)


def test_a_cell_that_one_run_lost_says_which_and_why(run_of: Callable[..., RunFile]) -> None:
    before = run_of(times("a/a", 4e6), name="before.jsonl")
    after = run_of([failed(CASES[0], "a/a", "crashed", "the worker ended with SIGSEGV")], name="after.jsonl")
    (missing,) = compare_runs(before, after).missing
    assert missing.why == f"in {after.path} it is crashed: the worker ended with SIGSEGV"


def test_two_machines_are_never_compared_silently(run_of: Callable[..., RunFile]) -> None:
    one = run_of(times("a/a", 4e6), name="one.jsonl")
    other = run_of(
        times("a/a", 4e6),
        name="other.jsonl",
        machine_key="v1-bbbb",
        threads=8,
        environment={"cpu_model": "Other 1", "versions": {"torch": "2.14.0"}, "cpu_mhz": 1.0},
    )
    notes = compare_runs(one, other).notes
    assert notes[0] == (
        "Not the same machine: Imaginary 9000 (v1-aaaa) and Other 1 (v1-bbbb). Times differ for that reason alone."
    )
    assert notes[1] == "Not the same number of threads: 2 and 8."
    assert "versions.torch (2.13.0, 2.14.0)" in notes[2]
    assert "cpu_mhz" not in notes[2]


def test_a_changed_source_is_said(run_of: Callable[..., RunFile]) -> None:
    one = run_of(times("a/a", 4e6), name="one.jsonl")
    other = run_of(times("a/a", 4e6), name="other.jsonl", implementations={"a/a": {"source_hash": "4567"}})
    assert "The source of a/a differs between the runs." in compare_runs(one, other).notes


def test_the_geometric_mean_of_a_speed_up_and_its_inverse_is_one() -> None:
    assert geometric_mean([4, 0.25]) == pytest.approx(1)
    assert geometric_mean([]) is None


def test_a_comparison_reads_like_this(run_of: Callable[..., RunFile]) -> None:
    lines = [*times("slow/plain", 8e6, 8e6), *times("fast/fused", 2e6), failed(CASES[1], "fast/fused", "wrong", "off")]
    assert markdown(view_of(compare_implementations(run_of(lines)))) == COMPARISON


COMPARISON = """\
# scaling: speed-up over slow/plain

Intervals of speed-ups: from the intervals of both medians (1 cell).

No interval from fewer than three processes sees how processes differ; --replicates 3 does.

Above 1 is faster than slow/plain.

| implementation | geometric mean | over |
| --- | ---: | --- |
| fast/fused | 4.00× | 1 of 2 cells |

All cases: forward · float32 · no mask · batch 1 · heads 8 · head\\_dim 64 · cpu

| seqlen | implementation | reference | median | speed-up | interval | difference | memory × |
| ---: | --- | ---: | ---: | ---: | ---: | --- | ---: |
| 128 | fast/fused | 8.00 ms | 2.00 ms | 4.00× | 3.921 … 4.081 | faster | 1.00× |

## 1 cell without a speed-up

| implementation | cells | why | cases |
| --- | ---: | --- | --- |
| fast/fused | 1 | is wrong: off | seqlen 256 |
"""


def test_json_names_the_reference_and_counts_what_is_missing(run_of: Callable[..., RunFile]) -> None:
    lines = [*times("slow/plain", 8e6, 8e6), *times("fast/fused", 2e6), failed(CASES[1], "fast/fused", "wrong", "off")]
    facts = json.loads(as_json(view_of(compare_implementations(run_of(lines)))))
    assert facts["reference"] == "slow/plain"
    assert facts["means"] == [{"implementation": "fast/fused", "geometric_mean": 4.0, "pairs": 1, "cells": 2}]
    assert [line["cells"] for line in facts["missing"]] == [1]
    assert [(row["speedup"], row["difference"]) for row in facts["rows"]] == [(4.0, "faster")]
