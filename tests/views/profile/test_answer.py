"""A profile in a terminal: bars and differences add up."""

from __future__ import annotations

import re

import pytest

from attnbench.profiling.parts import Counted
from attnbench.profiling.phases import TITLES, Phase
from attnbench.store.profile import CellProfile, Profile
from attnbench.views.document import as_csv, as_json, markdown
from attnbench.views.forms.terminal import as_text
from attnbench.views.profile.answer import profile_view
from attnbench.views.profile.bars import LETTERS, text_bars
from attnbench.views.profile.cases import cases_of
from attnbench.views.profile.differences import differences_of
from attnbench.views.profile.line_differences import line_table
from attnbench.views.profile.sentences import counters
from tests.views.profile.conftest import FLASH, FLOORS, SDPA, cell, failed, profile_of

ACTIVE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def test_every_phase_has_a_letter_of_its_own() -> None:
    assert set(LETTERS) == set(Phase)
    assert len(set(LETTERS.values())) == len(Phase)


def test_bars_are_as_long_as_their_times_on_one_scale(two: Profile) -> None:
    [case] = cases_of(two)
    bars = [line.split()[1] for line in text_bars(case.profiled, 100).splitlines()[:2]]
    scale = 100 / sum(SDPA.values())
    assert [len(bar) for bar in bars] == [round(scale * sum(times.values())) for times in (FLASH, SDPA)]
    for bar, times in zip(bars, (FLASH, SDPA), strict=True):
        for phase in Phase:
            assert abs(bar.count(LETTERS[phase]) - scale * times.get(phase, 0.0)) <= 1, phase


def test_the_sentence_tells_shares_and_floors(two: Profile) -> None:
    text = " ".join(as_text(profile_view(two)).split())
    assert "numba/flash: 41 % P V, 39 % Q K^T, 12 % exp, 5 % softmax." in text
    assert "P V takes 2.0× its floor (2.00 ms more)" in text
    assert "3 % is other" in text
    assert "while sampled, a call takes 1.04× its time" in text


def test_floors_are_explained_where_they_are_shown() -> None:
    def said(times: dict[Phase, float]) -> str:
        return " ".join(as_text(profile_view(profile_of(cell("mine", times)))).split())

    assert "is the least time" not in said({Phase.DISPATCH: 1e6})
    assert "peaks allow. Answer" in said({Phase.QK: FLOORS[Phase.QK]})
    assert "Below 1× a phase was faster" in said({Phase.QK: 0.9 * FLOORS[Phase.QK]})


def test_differences_add_up_to_that_of_the_medians(two: Profile) -> None:
    [case] = cases_of(two)
    [difference] = differences_of(case)
    assert (difference.fast.name, difference.slow.name) == ("numba/flash", "torch/sdpa-flash")
    assert sum(one.ns for one in difference.phases) == pytest.approx(2.4e6)
    assert difference.rest_ns == pytest.approx(0, abs=1)
    assert difference.sentence == (
        "torch/sdpa-flash is 2.40 ms slower than numba/flash (1.24× its time): +1.40 ms packing, +1.30 ms exp, "
        "+1.00 ms waiting, −500 µs softmax, −800 µs all others."
    )


def test_what_is_in_no_phase_is_named() -> None:
    slow = cell(
        "torch/sdpa-flash", SDPA, median_ns=sum(SDPA.values()) + 1e6, lost=7, notes=("page faults are not seen",)
    )
    profile = profile_of(cell("numba/flash", FLASH), slow)
    text = " ".join(as_text(profile_view(profile)).split())
    assert "+1.00 ms in no phase" in text
    assert "7 samples lost" in text
    assert "its time; 7 samples lost. Page faults are not seen." in text
    [fact] = profile_view(profile).facts["differences"]
    assert sum(fact["phases"].values()) + fact["rest_ns"] == pytest.approx(fact["ns"])


def test_line_differences_of_one_source_add_up_to_that_of_the_medians(two: Profile) -> None:
    [difference] = differences_of(cases_of(two)[0])
    table = line_table(difference)
    assert table is not None
    assert sum(row["ns"] for row in table.rows) == pytest.approx(difference.ns)
    by_text = {row["text"]: row["ns"] for row in table.rows}
    assert by_text["out += p @ v"] == pytest.approx(0.5 * 2.4e6)


def test_lines_of_unlike_sources_are_not_compared() -> None:
    other = tuple(one.model_copy(update={"file": "/other.py"}) for one in cell("a/a", SDPA).lines)
    [case] = cases_of(profile_of(cell("a/a", FLASH), cell("b/b", SDPA, lines=other)))
    assert line_table(differences_of(case)[0]) is None


def test_two_sides_are_compared_each_implementation_with_itself() -> None:
    renamed = tuple(one.model_copy(update={"file": "/new/other.py"}) for one in cell("a/a", SDPA).lines)
    [case] = cases_of(
        profile_of(
            cell("a/a", FLASH, side="base"), cell("a/a", SDPA, side="head", lines=renamed),
            cell("b/b", SDPA, side="base"), cell("b/b", FLASH, side="head"),
        )
    )  # fmt: skip
    assert [(one.slow.name, one.fast.name) for one in differences_of(case)] == [
        ("a/a, head", "a/a, base"),
        ("b/b, base", "b/b, head"),
    ]
    table = line_table(differences_of(case)[0])
    assert table is not None
    assert {row["text"]: row["ns"] for row in table.rows}["out += p @ v"] == pytest.approx(0.5 * 2.4e6)


def test_cells_of_other_cases_are_not_compared() -> None:
    profile = profile_of(cell("a/a", FLASH), cell("b/b", SDPA, case_id="beef"), cell("c/c", SDPA, threads=1))
    assert [differences_of(case) for case in cases_of(profile)] == [[], [], []]


def test_two_cells_of_one_name_are_told_apart() -> None:
    [case] = cases_of(profile_of(cell("a/a", FLASH), cell("a/a", SDPA)))
    assert [one.name for one in case.cells] == ["a/a", "a/a (2)"]


def test_rows_hold_each_phase_of_each_cell(two: Profile) -> None:
    rows = profile_view(two).rows
    assert len(rows) == len(FLASH) + len(SDPA) + 1
    assert sum(row["share"] for row in rows if row["implementation"] == "numba/flash") == pytest.approx(1)
    [qk] = [row for row in rows if (row["implementation"], row["phase"]) == ("numba/flash", "qk")]
    assert (qk["ns"], qk["floor_ns"], qk["title"]) == (3.9e6, 2.1e6, TITLES[Phase.QK])
    assert qk["times_floor"] == pytest.approx(3.9 / 2.1)
    assert (rows[-1]["status"], rows[-1]["phase"], rows[-1]["ns"]) == ("crashed", None, None)


def test_a_cell_without_a_profile_is_named_with_its_reason() -> None:
    text = as_text(
        profile_view(profile_of(failed("bad/crash"), cell("no/samples", {}, reason="perf_event_open: EACCES")))
    )
    assert "the worker ended with SIGSEGV." in text
    assert "perf_event_open: EACCES." in text


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\x1b[2Jb\u202e", "[red]a[/red]", "| a `b` |\n# c"])
def test_no_text_of_a_profile_acts(text: str) -> None:
    many = {"implementation": text, "label": text, "notes": (text,), "case_id": "f00d"}
    view = profile_view(profile_of(cell("", FLASH, **many), cell("", SDPA, **many), cell("", {}, **many, reason=text)))
    for said in (as_text(view), markdown(view), as_csv(view), as_json(view)):
        assert not ACTIVE.search(said)
    without_fences = re.sub(r"(?s)^(`{3,})\n.*?^\1$", "", markdown(view), flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)<script", without_fences)
    assert "\n# c" not in markdown(view)


def test_the_terminal_is_as_wide_as_it_is(two: Profile) -> None:
    assert max(map(len, as_text(profile_view(two)).splitlines())) <= 120


def test_what_the_hardware_counted_is_told_as_rates() -> None:
    cell = CellProfile(
        implementation="mine/one", case={}, case_id="c", label="l", device="cpu", threads=1, status="ok", median_ns=1e6,
        counted=Counted(cycles=2e6, instructions=5e6, cache_misses=2**14),
    )  # fmt: skip
    assert counters(cell) == "2,000,000 cycles, 2.50 instructions a cycle, at least 1.00 MiB from memory (1.05 GB/s)"
    assert counters(cell.model_copy(update={"counted": None})) == ""
