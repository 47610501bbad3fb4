"""The views of a history: lines, tables and the page; also for a file from a stranger."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from attnbench.api import history as api
from attnbench.history.point import Change, segment_of
from attnbench.history.store import History, append, read_history
from attnbench.store.reader import read_run
from attnbench.views.document import Table, as_json, markdown
from attnbench.views.forms.terminal import as_text
from attnbench.views.history.cells import cell_histories
from attnbench.views.history.tables import history_view, worst
from attnbench.views.report.content import report_of
from attnbench.views.report.history_page import history_report, write_history_page
from attnbench.views.report.page import markdown_page
from tests.conftest import REPOSITORY
from tests.history.lines import MIB, point, revision


def change(number: int, **fields: object) -> Change:
    usual = {
        "revision": revision(number), "before": revision(number - 1), "place": number,
        "date": "2026-11-01T00:00:00+00:00",
        "subject": "Sums are kept", "case_id": "c0ffee000000", "implementation": "mine/plain", "device": "cpu",
        "label": "mine/plain, forward", "metric": "time", "verdict": "slower", "sentence": "8.1 % slower",
        "ratio": 1.081, "ratio_low": 1.071, "ratio_high": 1.09,
    }  # fmt: skip
    return Change.model_validate(usual | fields)


def history(*points: object, **fields: object) -> History:
    return History(points=points, **fields)  # type: ignore[arg-type]  # points


def line(*points: object, **fields: object) -> str:
    (one,) = cell_histories(history(*points, **fields))
    return one.line()


def test_a_line_rises_where_the_cell_became_slower() -> None:
    points = [point(0), *(point(i, log_ratio=0.10 if i >= 3 else 0.0) for i in range(1, 6))]
    assert line(*points) == "▁▁▁███"
    assert line(*points, changes=[change(3)]) == "▁▁▁|███"


def test_noise_looks_like_noise() -> None:
    assert set(line(point(0), point(1, log_ratio=0.005), point(2, log_ratio=-0.005))) <= set("▄▅")


def test_a_line_shows_segments_outcomes_and_what_is_not_timed() -> None:
    old = [point(0), point(1, log_ratio=0.0)]
    new = [
        point(0, segment="s2"),
        point(2, log_ratio=0.0, segment="s2"),
        point(3, status="wrong", segment="s2"),
    ]
    assert line(*old, *new) == "▅▅┊▅✗", "the anchor is in each segment, and shown in the first"
    assert line(point(0), point(1)) == "··"
    assert line(point(0, memory_peak_bytes=MIB), point(1, memory_peak_bytes=2 * MIB)) == "▁█"


def test_the_change_since_a_revision_is_chained_over_segments() -> None:
    """10 % in one segment and 5 % in the next, both with 2; the change between segments counts for no commit."""
    points = [
        point(0), point(1, log_ratio=0.03, se=0.003), point(2, log_ratio=0.10, se=0.004),
        point(0, segment="s2"), point(2, log_ratio=0.30, se=0.01, segment="s2"),
        point(3, log_ratio=0.35, se=0.02, segment="s2"),
    ]  # fmt: skip
    (one,) = cell_histories(history(*points))
    total, se = one.change_since(0) or (0.0, 0.0)
    assert total == pytest.approx(0.15)
    assert se == pytest.approx(math.sqrt(0.004**2 + 0.01**2 + 0.02**2))
    since_one, _ = one.change_since(1) or (0.0, 0.0)
    assert since_one == pytest.approx(0.07 + 0.05)


def test_the_worst_comes_first() -> None:
    def cell(name: str, log: float) -> list[object]:
        return [point(i, log_ratio=i * log or None, implementation=name, label=name) for i in range(3)]

    points = [*cell("a/fine", 0.0001), *cell("b/slow", 0.05), *cell("c/slower", 0.10), *cell("d/fast", -0.1)]
    points.append(point(2, implementation="e/wrong", label="e/wrong", status="wrong"))
    assert [row["label"] for row in worst(history(*points), None)][:3] == ["e/wrong", "c/slower", "b/slow"]


def test_a_view_tells_changes_segments_and_damage() -> None:
    before, after = segment_of({"torch": "2.12.0"}), segment_of({"torch": "2.13.0"})
    points = [
        point(0, segment=before.segment), point(1, log_ratio=0.08, segment=before.segment),
        point(2, log_ratio=0.08, segment=after.segment), point(0, segment=after.segment, measured_at="2026-12-01"),
    ]  # fmt: skip
    view = history_view(
        history(*points, segments=[before, after], changes=[change(1)], warnings=["line 7 is left out"]), "v1-a"
    )
    for text in (as_text(view), markdown(view)):
        assert "Sums are kept" in text
        assert "torch 2.12.0 → 2.13.0" in text
        assert "line 7 is left out" in text
        assert "+8.1 %" in text
    assert json.loads(as_json(view))["changes"][0]["revision"] == revision(1)


def test_the_answer_of_a_page_shows_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vl_convert", reason="attnbench[report] is not installed")
    append(tmp_path / "k.jsonl", [point(0), point(1, log_ratio=0.1), point(2, log_ratio=0.1)])
    monkeypatch.chdir(tmp_path)
    made = api.page(since=revision(1), file="k.jsonl", link="https://example.org/{revision}", out="page")
    assert f"Since {revision(1)[:10]}" in markdown(made.view)
    assert f"Since {revision(1)[:10]}" in (tmp_path / "page" / "report.md").read_text()


HOSTILE = "<script>alert(1)</script> [x](javascript:alert(1)) | `a` \x1b[31m"


def test_what_a_stranger_wrote_acts_nowhere(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="attnbench[report] is not installed")
    lines = [
        point(i, log_ratio=i * 0.05 or None, subject=HOSTILE, label=HOSTILE, implementation=HOSTILE) for i in range(3)
    ]
    append(tmp_path / "k.jsonl", [*lines, segment_of({HOSTILE: HOSTILE}), change(1, subject=HOSTILE, label=HOSTILE)])
    found = read_history(tmp_path / "k.jsonl")
    page = write_history_page(found, tmp_path / "page", since=None, link="https://example.org/{revision}", force=False)
    text = page.read_text()
    assert "<script>alert" not in text
    assert 'href="javascript' not in text
    twin = (tmp_path / "page" / "report.md").read_text()
    assert "<script>alert" not in twin
    assert "[x](" not in twin, "its brackets are written out"
    assert "\x1b" not in text + twin + as_text(history_view(found, "k"))


def test_a_page_has_a_chart_for_each_cell_with_its_borders() -> None:
    points = [
        point(0), point(1, log_ratio=0.08), point(1, log_ratio=0.08, segment="s2"),
        point(2, log_ratio=0.08, segment="s2"),
        point(0, segment="s2", implementation="other/kernel", label="other/kernel", memory_peak_bytes=MIB),
    ]  # fmt: skip
    report = history_report(history(*points, changes=[change(1)]), link="https://example.org/{revision}")
    (cells,) = [section for section in report.sections if section.anchor == "cells"]
    assert len(cells.blocks) == 2
    assert f"https://example.org/{revision(1)}" in markdown_page(report)


def test_a_page_without_a_link_has_none() -> None:
    report = history_report(history(point(0), point(1, log_ratio=0.1), changes=[change(1)]))
    assert "](http" not in markdown_page(report)


def test_a_report_shows_how_the_cells_of_its_run_went_over_commits() -> None:
    run = read_run(REPOSITORY / "results" / "reference" / "cpu-race.jsonl")
    record = run.records[0]
    name = {field: record[field] for field in ("case_id", "implementation", "device")}
    commits = history(point(0, **name), point(1, log_ratio=0.1, **name), point(1, implementation="not/here"))
    (section,) = [one for one in report_of([run], history=commits).sections if one.anchor == "over-commits"]
    table = section.blocks[0]
    assert isinstance(table, Table)
    assert [row["implementation"] for row in table.rows] == [record["implementation"]]
    assert table.rows[0]["line"] == "▁█"
    assert "over-commits" not in [one.anchor for one in report_of([run]).sections]
