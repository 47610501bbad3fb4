"""The page's sections about the run itself: disturbances, every metric, and the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.cases.case import make_case
from attnbench.store.record import METRICS
from attnbench.views.report.sections.about import conditions
from tests.views.conftest import full_record, timed
from tests.views.report.parsed_page import page_of, section

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile


def test_what_disturbed_the_cells_is_said_with_the_worst_of_each_implementation(run_of: Callable[..., RunFile]) -> None:
    cases = [make_case(seqlen_q=n) for n in (128, 256)]
    lines = [
        timed(cases[0], "a/a", 1e6, steal_share=0.02, warmup_converged=True, throttled_by=("power cap",)),
        timed(cases[1], "a/a", 2e6, steal_share=0.25, warmup_converged=False, launch_bound=True),
        timed(cases[0], "b/b", 3e6, steal_share=0.0, warmup_converged=True, machine_drift=0.061),
    ]
    found = section(page_of(run_of(lines)), "conditions")
    said = found.all("p")[0].text
    assert "Of 3 timed cells, 1 did not settle while they warmed up" in said
    assert "2 lost processor time to other virtual machines (at most 25.0 %)" in said
    assert "pages from the disk" not in said
    assert "The machine's pace changes by 6.1 % from run to run" in said
    head, *rows = [[cell.words().strip() for cell in row.children] for row in found.all("table")[0].all("tr")]
    assert head == ["implementation", "cells", "warm-up converged", "launch-bound", "throttled by", "stolen"]
    assert rows == [
        ["a/a", "2", "no", "yes", "power cap", "0.250"],
        ["b/b", "1", "yes", "—", "—", "0"],
    ]


def test_where_no_pace_was_measured_nothing_is_said_of_it(run_of: Callable[..., RunFile]) -> None:
    found = section(page_of(run_of([timed(make_case(seqlen_q=128), "a/a", 1e6)])), "conditions")
    assert "pace" not in found.words()


def test_the_page_shows_every_metric_that_a_cell_has(run_of: Callable[..., RunFile]) -> None:
    found = section(page_of(run_of([full_record(make_case(requests="3q16"))])), "conditions")
    titles = {head.words().strip().rsplit(", ", 1)[0] for head in found.all("th")}
    assert {metric.title for metric in METRICS.values() if not metric.is_per_sample} <= titles


def test_of_a_large_sweep_the_rest_of_the_metrics_is_in_a_file(
    run_of: Callable[..., RunFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "MOST_CELLS", 2)
    found = section(page_of(run_of([timed(make_case(seqlen_q=n), "a/a", 1e6) for n in (128, 256, 512)])), "conditions")
    assert "1 more cell: data/cells.csv has them all." in found.words()


def test_environments_of_several_runs_are_compared_fact_by_fact(run_of: Callable[..., RunFile]) -> None:
    lines = [timed(make_case(seqlen_q=128), "a/a", 1e6)]
    one = run_of(lines, name="before.jsonl")
    other = run_of(lines, name="after.jsonl", threads=4, environment={"cpu_model": "Imaginary 9001"})
    words = section(page_of(one, other), "provenance").words()
    assert "What differs between the runs" in words
    assert "Imaginary 9000" in words
    assert "Imaginary 9001" in words
    assert "What differs" not in section(page_of(one), "provenance").words()
