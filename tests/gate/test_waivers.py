"""Waivers allow a regression in one metric of one cell, up to a ceiling and until a date."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from attnbench.gate.verdict import GateResult
from attnbench.gate.waivers import WaiverError, apply_waivers, read_waivers
from tests.gate.conftest import ONE, Imagined, of_one

TODAY = datetime.date(2026, 11, 24)


def waiver(path: Path, **given: str) -> Path:
    """Write a file with one waiver of the changed cell's time, with some lines replaced."""
    fields = {
        "case_id": f'"{ONE[0]}"', "implementation": f'"{ONE[1]}"', "metric": '"time"', "ceiling": '"15%"',
        "expires": "2026-12-31", "issue": '"issues/12"', "reason": '"one more pass"',
    } | given  # fmt: skip
    file = path / "waivers.toml"
    file.write_text("[[waiver]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items() if value))
    return file


@pytest.fixture
def regressed(imagined: Imagined) -> GateResult:
    return imagined(slower=0.10)


def test_a_waived_regression_passes_and_stays_visible(regressed: GateResult, tmp_path: Path) -> None:
    result = apply_waivers(regressed, read_waivers(waiver(tmp_path)), TODAY)
    assert regressed.exit_code == 1
    assert result.exit_code == 0
    one = of_one(result)
    assert one.verdict == "slower"
    assert one.waived is not None
    assert one.waived.reason == "one more pass"
    assert "1 slower (waived)" in result.sentence


def test_a_change_above_the_ceiling_fails(regressed: GateResult, tmp_path: Path) -> None:
    result = apply_waivers(regressed, read_waivers(waiver(tmp_path, ceiling='"5%"')), TODAY)
    assert result.exit_code == 1
    assert "more than the 5 % that its waiver forgives" in of_one(result).sentence


def test_it_holds_on_its_last_day_and_fails_from_the_next_one(regressed: GateResult, tmp_path: Path) -> None:
    waivers = read_waivers(waiver(tmp_path))
    assert apply_waivers(regressed, waivers, datetime.date(2026, 12, 31)).exit_code == 0
    late = apply_waivers(regressed, waivers, datetime.date(2027, 1, 1))
    assert late.exit_code == 1
    assert of_one(late).waived is None


def test_an_expired_waiver_fails_even_where_nothing_regressed(imagined: Imagined, tmp_path: Path) -> None:
    result = apply_waivers(imagined(), read_waivers(waiver(tmp_path, expires="2026-01-31")), TODAY)
    assert result.exit_code == 1
    assert "expired on 2026-01-31" in result.problems[0]


@pytest.mark.parametrize(
    "other",
    [
        {"metric": '"memory"'},
        {"implementation": '"b/plain"'},
        {"device": '"cuda"'},
        {"case_id": '"0123456789ab"'},
    ],
)
def test_it_is_for_exactly_one_metric_of_one_cell(
    regressed: GateResult, tmp_path: Path, other: dict[str, str]
) -> None:  # fmt: skip
    result = apply_waivers(regressed, read_waivers(waiver(tmp_path, **other)), TODAY)
    assert result.exit_code == 1
    assert any("forgives nothing: remove it" in note for note in result.notes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"expires": '"next year"'}, "waiver 1, expires: "),
        ({"expires": "2026-13-40"}, "is not TOML"),
        ({"ceiling": '"much"'}, "waiver 1, ceiling: "),
        ({"ceiling": '"x%"'}, "'x%' is no share"),
        ({"ceiling": ""}, "a waiver of time needs a ceiling"),
        ({"reason": ""}, "waiver 1 has no reason"),
        ({"issue": '""'}, "waiver 1, issue: "),
        ({"metric": '"speed"'}, "waiver 1, metric: "),
        ({"ceiling": '"inf%"'}, "waiver 1, ceiling: "),
        ({"ceiling": "inf"}, "waiver 1, ceiling: "),
        ({"ceiling": "nan"}, "waiver 1, ceiling: "),
        ({"ceiling": '"-3%"'}, "waiver 1, ceiling: "),
        ({"ceiling": '"100000%"'}, "waiver 1, ceiling: "),
        ({"metric": '"outcome"'}, "an outcome has no ceiling"),
        ({"verdict": '"lost"'}, "verdict goes with the metric outcome"),
        ({"celling": "3"}, "waiver 1, celling: unknown key; did you mean 'ceiling'? (there are case_id, "),
    ],
)
def test_a_malformed_waiver_is_refused_with_its_place(tmp_path: Path, given: dict[str, str], words: str) -> None:
    with pytest.raises(WaiverError, match=r"waivers\.toml") as refused:
        read_waivers(waiver(tmp_path, **given))
    assert words in str(refused.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = waiver(tmp_path, reason="", metric='"speed"')
    with pytest.raises(WaiverError, match=r"metric: .*; waiver 1 has no reason"):
        read_waivers(file)


def test_an_outcome_needs_no_ceiling(imagined: Imagined, tmp_path: Path) -> None:
    lost = imagined(head={"status": "unsupported", "reason": "dropped"})
    result = apply_waivers(lost, read_waivers(waiver(tmp_path, metric='"outcome"', ceiling="")), TODAY)
    assert (lost.exit_code, result.exit_code) == (1, 0)


@pytest.mark.parametrize(("named", "code"), [("", 1), ('"lost"', 1), ('"wrong"', 0)])
def test_a_waiver_of_one_outcome_forgives_no_other(imagined: Imagined, tmp_path: Path, named: str, code: int) -> None:
    wrong = imagined(head={"status": "wrong", "reason": "out is off"})
    file = waiver(tmp_path, metric='"outcome"', ceiling="", verdict=named)
    assert apply_waivers(wrong, read_waivers(file), TODAY).exit_code == code


def test_a_table_of_another_name_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text("[[waivers]]\n")
    with pytest.raises(WaiverError, match="nothing else, not waivers"):
        read_waivers(tmp_path / "w.toml")
