"""Views as HTML."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

import attnbench
from attnbench.store.reader import read_run
from attnbench.views.document import Block, Column, Heading, Paragraph, Plot, Table, View
from attnbench.views.forms.notebook import MOST_CHARTS, MOST_ROWS, Image, html, time_charts
from attnbench.views.report.figures import time_figure
from tests.conftest import REPOSITORY

STORED = REPOSITORY / "results/reference"
COLUMNS = (Column(title="name", text=lambda row: str(row["name"])),)


def view(names: list[str]) -> View:
    rows = [{"name": name} for name in names]
    blocks: list[Block] = [
        Heading(text="A <title>", level=1), Paragraph(text="1 < 2"), Plot(title="time", text="*"),
        Table(columns=COLUMNS, rows=rows),
    ]  # fmt: skip
    return View(blocks=blocks, rows=rows, facts={})


def test_names_from_a_strangers_file_are_text() -> None:
    page = html(view(["<script>alert(1)</script>"]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<h3>A &lt;title&gt;</h3>" in page


def test_a_long_table_is_cut_and_says_so() -> None:
    page = html(view(["x"] * (MOST_ROWS + 7)))
    assert page.count("<tr>") == 1 + MOST_ROWS
    assert "7 more rows are in the frame." in page


def test_an_image_stands_in_place_of_a_plot_of_characters() -> None:
    assert "<pre>time\n*</pre>" in html(view(["x"]))
    page = html(view(["x"]), [Image(title="t", alt='say "a"', data=b"<svg/>")])
    assert "<pre>" not in page
    assert 'alt="say &quot;a&quot;"' in page
    assert "base64,PHN2Zy8+" in page


def test_the_columns_that_people_need_stand_first_in_a_frame() -> None:
    frame = attnbench.show(STORED / "quick.jsonl").frame
    assert list(frame.columns[:2]) == ["implementation", "device"]
    assert list(frame.columns).index("time_median_ns") < 16
    assert set(frame.columns) == set(attnbench.load(STORED / "quick.jsonl").columns)


@pytest.mark.skipif(importlib.util.find_spec("vl_convert") is None, reason="charts need the extra 'report'")
def test_a_run_plots_its_times() -> None:
    page = attnbench.show(STORED / "scaling.jsonl").plot()._repr_html_()
    assert page.startswith("<div><figure")
    assert "image/svg+xml" in page


def test_without_what_draws_it_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(attnbench.UsageError, match="report"):
        attnbench.show(STORED / "scaling.jsonl").plot()


@pytest.mark.skipif(importlib.util.find_spec("vl_convert") is None, reason="charts need the extra 'report'")
def test_no_chart_is_drawn_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def counted(*given: Any) -> Any:
        drawn.append(given[1])
        return time_figure(*given)

    monkeypatch.setattr("attnbench.views.report.figures.time_figure", counted)
    assert len(time_charts([read_run(STORED / "quick.jsonl")])) == len(drawn) == MOST_CHARTS
