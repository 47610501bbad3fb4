"""One run, in a terminal, in Markdown, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from attnbench.cases.case import make_case
from attnbench.views.compare import CompareError
from attnbench.views.document import View, as_csv, as_json, markdown
from attnbench.views.forms.terminal import terminal
from attnbench.views.show import show
from tests.views.conftest import failed, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile

SHORT, LONG = make_case(seqlen_q=128), make_case(seqlen_q=1024)
REASON = "mask 'document' is not declared (only none)"


@pytest.fixture
def run(run_of: Callable[..., RunFile]) -> RunFile:
    """Return a run at two lengths: one implementation is fast, one is wrong at one length, one is unavailable."""
    return run_of(
        [
            timed(SHORT, "slow/plain", 2e6),
            timed(LONG, "slow/plain", 9e7),
            timed(SHORT, "fast/fused", 5e5),
            failed(LONG, "fast/fused", "wrong", "out is 3.2 budgets away", stage="agreement", out_error_ratio=3.2),
            failed(SHORT, "gone/library", "unavailable", "libgone is not installed", stage="plan"),
            failed(LONG, "gone/library", "unavailable", "libgone is not installed", stage="plan"),
        ]
    )


MARKDOWN = """\
# scaling, run f00dfeed0001

fast/fused is fastest in 1 of 2 cases: 4.00× (3.92 … 4.08) as fast as slow/plain; one alone in 1.

2026-11-24T08:00:00+00:00, attnbench 0.1.0: attnbench run scaling

Imaginary 9000; devices cpu; 2 threads, 1 process for each cell

6 cells: 3 ok, 2 unavailable, 1 wrong

All cases: forward · float32 · no mask · batch 1 · heads 8 · head\\_dim 64 · cpu

Ran in no case: gone/library; the reasons are at the end.

| seqlen | implementation | status | median | 95 % interval | speed-up over slow/plain | peak memory | error / budget |
| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |
| 128 | fast/fused | ok | 500 µs | 495.0 … 505.0 µs | 4.00× | 64.0 KiB | 0.200 |
| 128 | slow/plain | ok | 2.00 ms | 1.980 … 2.020 ms | — | 64.0 KiB | 0.200 |
| 1k | slow/plain | ok | 90.0 ms | 89.10 … 90.90 ms | — | 512 KiB | 0.200 |
| 1k | fast/fused | wrong | — | — | — | — | 3.20 |

## Why cells are not ok

| status | cells | implementations | stage | reason |
| --- | ---: | --- | --- | --- |
| unavailable | 2 | gone/library | plan | libgone is not installed |
| wrong | 1 | fast/fused | agreement | out is 3.2 budgets away |
"""


def test_a_run_reads_like_this(run: RunFile) -> None:
    assert markdown(show(run)) == MARKDOWN


def test_a_case_tells_only_of_those_that_ran_in_others(run_of: Callable[..., RunFile]) -> None:
    some = [timed(SHORT, "a/a", 1e6), failed(LONG, "a/a", "unsupported", REASON, stage="plan")]
    nowhere = [failed(case, "b/b", "unavailable", "libb is not installed", stage="plan") for case in (SHORT, LONG)]
    text = markdown(show(run_of(some + nowhere)))
    assert "Ran in no case: b/b; the reasons are at the end." in text
    assert "Not run: a/a (unsupported at 1k)." in text


def printed(view: View, width: int = 140) -> str:
    """Render for a terminal of this width, without colours."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(terminal(view))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_says_the_same_and_never_takes_brackets_for_colours(run_of: Callable[..., RunFile]) -> None:
    broken = failed(SHORT, "a/a", "error", "ValueError: [red]oops[/red] at q[0, 1]")
    text = printed(show(run_of([broken], command=["attnbench", "run", "[bold]"], scenario={"name": "[dim]"})))
    for plain in ("ValueError: [red]oops[/red] at q[0, 1]", "attnbench run '[bold]'", "[dim], run f00dfeed0001"):
        assert plain in text
    assert "\x1b" not in text


def test_a_narrow_terminal_leaves_columns_out_and_says_which_but_never_breaks_a_number(run: RunFile) -> None:
    text = printed(show(run), width=70)
    for whole in ("500 µs", "90.0 ms", "fast/fused", "4.00", "512 KiB"):
        assert whole in text
    assert "Not shown in 70 columns: 95 % interval, error / budget." in text
    assert max(map(len, text.splitlines())) <= 70


def test_at_no_width_is_a_number_cut_off(run: RunFile) -> None:
    for width in range(45, 130):
        text = " ".join(printed(show(run), width).split())
        for whole in ("fast/fused", "500 µs", "2.00 ms", "90.0 ms"):
            assert whole in text, f"{whole} in {width} columns"
        assert "4.00×" in text or "95 % interval, error / budget, peak memory, speed-up over slow/plain" in text


def test_a_wide_terminal_shows_every_column(run: RunFile) -> None:
    text = printed(show(run), width=120)
    assert "495.0 … 505.0 µs" in text
    assert "Not shown" not in text


def test_forty_equal_reasons_are_one_line(run_of: Callable[..., RunFile]) -> None:
    lines = [
        failed(make_case(seqlen_q=8 + i), name, "unsupported", REASON, stage="plan")
        for i in range(20)
        for name in ("a/a", "b/b")
    ]
    text = markdown(show(run_of(lines)))
    assert text.count(REASON) == 1
    assert "| unsupported | 40 | a/a, b/b | plan |" in text


def test_reasons_that_differ_in_numbers_alone_are_one_line_that_says_so(run_of: Callable[..., RunFile]) -> None:
    lines = [failed(make_case(seqlen_q=8 + i), "a/a", "wrong", f"out is {i}.5 budgets away") for i in range(5)]
    assert "| wrong | 5 | a/a | call | out is 0.5 budgets away (and 4 reasons with other numbers) |" in markdown(
        show(run_of(lines))
    )


def test_speed_ups_are_over_the_baseline_that_is_named(run_of: Callable[..., RunFile]) -> None:
    run = run_of([timed(SHORT, "a/a", 1e6), timed(SHORT, "b/b", 2e6)], scenario={"name": "s"})
    assert "speed-up over a/a" in markdown(show(run))
    assert "speed-up over b/b" in markdown(show(run, baseline="b/b"))


def test_a_baseline_that_was_not_run_is_refused(run: RunFile) -> None:
    with pytest.raises(CompareError, match="no implementation 'fast'; there are: fast/fused, gone/library, slow/plain"):
        show(run, baseline="fast")


def test_few_samples_are_marked_and_the_mark_is_explained(run_of: Callable[..., RunFile]) -> None:
    few: dict[str, Any] = {"time_samples_ns": [1e6, 1.2e6, 1.1e6], "time_ci_low_ns": None, "time_ci_high_ns": None}
    view = show(run_of([timed(SHORT, "a/a", 1.1e6, **few)]))
    explained = "* The range of the samples, which are too few for an interval of 95 %."
    assert "| 1.10 ms | 1.000 … 1.200 ms\\* |" in markdown(view)
    assert f"\\{explained}" in markdown(view)
    assert explained in printed(view)
    assert explained not in printed(view, width=60), "the column with the star is left out"


def test_nothing_is_explained_that_is_not_there(run: RunFile) -> None:
    assert "The range of the samples" not in markdown(show(run))


def test_rows_of_a_spreadsheet_are_sorted_by_length_and_time(run_of: Callable[..., RunFile]) -> None:
    lengths = (512, 128, 256)
    lines = [timed(make_case(seqlen_q=n), name, ns) for n in lengths for name, ns in (("a/a", 2e6), ("b/b", 1e6))]
    rows = csv.DictReader(io.StringIO(as_csv(show(run_of(lines)))))
    order = [(int(row["seqlen_kv"]), row["implementation"]) for row in rows]
    assert order == [(n, name) for n in (128, 256, 512) for name in ("b/b", "a/a")]


def test_csv_holds_every_cell_with_raw_numbers(run: RunFile) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(show(run)))))
    assert len(rows) == 6
    fused = next(row for row in rows if row["implementation"] == "fast/fused" and row["seqlen_q"] == "128")
    assert fused["time_median_ns"] == "500000.0"
    assert fused["speedup"] == "4.0"
    assert fused["baseline"] == "slow/plain"
    assert fused["reason"] == ""


def test_json_holds_the_cells_the_counts_and_the_reasons(run: RunFile) -> None:
    facts = json.loads(as_json(show(run)))
    assert facts["counts"] == {"ok": 3, "wrong": 1, "unavailable": 2}
    assert [(line["status"], line["cells"]) for line in facts["not_ok"]] == [("unavailable", 2), ("wrong", 1)]
    assert len(facts["rows"]) == 6
    assert sum(row["time_median_ns"] is None for row in facts["rows"]) == 3


def test_what_is_missing_from_a_run_is_said(run_of: Callable[..., RunFile]) -> None:
    run = run_of([timed(SHORT, "a/a", 1e6)], cells_planned=9, footer=False)
    assert "is incomplete: 1 of 9 planned records are there" in printed(show(run)).replace("\n", " ")


def test_an_empty_run_is_shown_as_empty(run_of: Callable[..., RunFile]) -> None:
    assert "0 cells: none" in markdown(show(run_of([])))
