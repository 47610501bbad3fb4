"""The page in a real browser: narrow and wide, light and dark, with and without scripts."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from attnbench import units
from attnbench.store.reader import read_run
from attnbench.views.report.content import report_of
from attnbench.views.report.page import html_page
from attnbench.views.report.write import write_report
from tests.views.report.chromium import CHROMIUM, Chromium
from tests.views.synthetic import large_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnbench.store.reader import RunFile

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt-get install chromium")

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CHARTS = """[...document.querySelectorAll("figure .chart svg")].map(svg => {
  const box = svg.getBoundingClientRect();
  return [box.width, box.height, svg.querySelectorAll("path, line, text").length];
})"""
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll("figure .chart svg text")].filter(t => t.textContent)
  .map(t => t.getBoundingClientRect().height))"""
ALL_LIVE = "document.querySelectorAll('figure.is-live').length == document.querySelectorAll('script.spec').length"
# Contrast of text with its background, WCAG 2; backgrounds of half-transparent parents are mixed.
CONTRASTS = """(() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = "rgba(0,0,0,0)"; pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] > 250) return found;
    }
    return [255, 255, 255];
  };
  const worst = [];
  document.querySelectorAll("details").forEach((one) => (one.open = true));
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || ["SCRIPT", "STYLE", "OPTION"].includes(element.tagName) || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [low, high] = [light(ink), light(ground(element))].sort((a, b) => a - b);
    worst.push([(high + 0.05) / (low + 0.05), element.tagName + " " + element.textContent.trim().slice(0, 30)]);
  }
  return worst.sort((a, b) => a[0] - b[0]).slice(0, 3);
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Start one browser for all tests."""
    with Chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def page(scaling_run: RunFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a report, and return its page."""
    return write_report([scaling_run], tmp_path_factory.mktemp("browser") / "report")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_wider_than_the_window_and_every_chart_can_be_read(
    browser: Chromium, page: Path, width: int, scripts: bool
) -> None:
    browser.open(page, width, scripts=scripts)
    if scripts:
        bring_all_to_life(browser)
    assert browser.run(OVERFLOW) == 0
    charts = browser.run(CHARTS)
    assert len(charts) == 20
    for chart_width, chart_height, marks in charts:
        assert 300 <= chart_width <= width
        assert chart_height > 80
        assert marks > 10
    assert browser.run(SMALLEST_TEXT) >= 9


def test_nothing_is_loaded_and_nothing_complains(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    bring_all_to_life(browser)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in browser.requests if url.startswith("file:")]) == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_text_has_a_contrast_of_four_and_a_half_in_both_themes(
    browser: Chromium, page: Path, dark: bool, scripts: bool
) -> None:
    browser.open(page, 1600, dark=dark, scripts=scripts)
    if scripts:
        bring_all_to_life(browser)
    worst = browser.run(CONTRASTS)
    assert worst[0][0] >= 4.5, worst
    ground = browser.run("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == ("rgb(20, 23, 26)" if dark else "rgb(252, 252, 250)")


def test_hiding_an_implementation_hides_it_everywhere_and_stays_in_the_address(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    bring_all_to_life(browser)
    points = "document.querySelectorAll('#time-1 .mark-symbol.role-mark path').length"
    before = browser.run(points)
    browser.run("document.querySelector('#filters input[name=\"slow/plain\"]').click()")
    browser.wait(f"{points} == {before - 7}")
    assert browser.run("[...document.querySelectorAll('tr[data-implementation=\"slow/plain\"]')]"
                       ".every(row => !row.getClientRects().length)")  # fmt: skip
    fragment = browser.run("location.hash")
    assert "hide=slow" in fragment
    browser.open(page, 1600, fragment=fragment)
    assert not browser.run("document.querySelector('#filters input[name=\"slow/plain\"]').checked")


def test_a_filter_leaves_its_cases_and_a_link_within_the_page_keeps_it(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    shown = "[...document.querySelectorAll('figure[id^=\"time-\"]')].filter(f => f.getClientRects().length).length"
    assert browser.run(shown) == 4
    browser.run("""(() => { const s = document.querySelector('#filters select[name="mask"]');
      s.value = "causal"; s.dispatchEvent(new Event("change")); })()""")
    assert browser.run(shown) == 2
    browser.run("document.querySelector('nav a[href=\"#memory\"]').click()")
    browser.wait("location.hash.startsWith('#memory?')")
    assert "mask=causal" in browser.run("location.hash")
    assert browser.run(shown) == 2


def test_another_baseline_makes_other_speed_ups_and_is_named(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600, fragment="#speedup?baseline=fast/fused")
    caption, own, other = browser.run("""(() => { const t = document.querySelector("table[data-baseline]");
      const row = (name) => t.querySelector(`tr[data-implementation="${name}"]`).cells[6].textContent;
      return [t.caption.textContent, row("fast/fused"), row("slow/plain")]; })()""")
    assert caption.endswith("speed-up over fast/fused")
    assert own == "1"
    assert float(other.rstrip("×")) == pytest.approx((90_000 + 0.1 * 4096**2) / (40_000 + 0.9 * 4096**2), rel=0.05)


def test_times_over_the_best_are_a_switch_that_stays_in_the_address(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    bring_all_to_life(browser)
    title = "[...document.querySelectorAll('#time-1 text')].map(text => text.textContent)"
    names = "[...document.querySelectorAll('#time-1 .mark-text.role-mark text')].map(text => text.textContent).sort()"
    before = browser.run(names)
    assert "time of one call" in browser.run(title)
    browser.run("document.querySelector('#filters input[name=\"relative\"]').click()")
    browser.wait(f"{title}.includes('time over the best')")
    assert browser.run(names) == before
    assert "1×" in browser.run(title)
    assert "relative" in browser.run("location.hash")
    browser.open(page, 1600, fragment=browser.run("location.hash"))
    browser.wait(f"{title}.includes('time over the best')")
    browser.run("document.querySelector('#filters input[name=\"relative\"]').click()")
    browser.wait(f"{title}.includes('time of one call')")
    assert browser.complaints == []


def test_a_budget_is_answered_with_the_length_that_fits(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    browser.run("""(() => { const i = document.querySelector(".budget input");
      i.value = 0.5; i.dispatchEvent(new Event("input")); })()""")
    text = browser.run("document.querySelector('.budget tr[data-implementation=\"slow/plain\"]').cells[2].textContent")
    assert float(text.rstrip("*").replace(",", "")) == pytest.approx((0.5 * 2**30 / 8) ** 0.5, rel=0.05)


def bring_all_to_life(browser: Chromium) -> None:
    """Scroll through the page, as a reader does, so that all charts are drawn."""
    browser.run("document.querySelectorAll('details').forEach(d => d.open = d.id === 'filter-box')")
    browser.run("""(async () => { for (const f of document.querySelectorAll("figure")) {
      f.scrollIntoView();
      await new Promise(resolve => { requestAnimationFrame(resolve); setTimeout(resolve, 1000); }); }
      scrollTo(0, 0); })()""")
    browser.wait(ALL_LIVE)


MAP = "[...document.querySelectorAll('#winners-by-group-1 tr')].map(row => row.innerText.trim())"


def test_the_winners_are_found_anew_when_an_implementation_is_hidden(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    before = browser.run(MAP)
    assert any("fast/fused" in row for row in before)
    fastest = "document.querySelector('#filters input[name=\"fast/fused\"]')"
    browser.run(f"{fastest}.click()")
    without = browser.run(MAP)
    assert len(without) == len(before)
    assert not any("fast/fused" in row for row in without)
    assert all("slow/blocked" in row for row in without[1:])
    # Computed values equal the written ones to the last digit.
    browser.run(f"{fastest}.click()")
    assert browser.run(MAP) == before


def test_speed_ups_that_are_computed_anew_read_like_those_that_were_written(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    table = (
        "[...document.querySelectorAll('table[data-baseline] td')].map(td => [td.innerText, td.title, td.className])"
    )
    before = browser.run(table)
    for name in ("fast/fused", "slow/plain"):
        browser.run(f"""(() => {{ const s = document.querySelector('#filters select[name="baseline"]');
          s.value = "{name}"; s.dispatchEvent(new Event("change")); }})()""")
        if name != "slow/plain":
            assert browser.run(table) != before
    assert browser.run(table) == before


def static(run: RunFile, folder: Path, **given: Any) -> Path:
    """Write a page without Vega, and so without scripts."""
    path = folder / "static.html"
    path.write_text(html_page(report_of([run], **given)), encoding="utf-8")
    return path


SPEEDUPS = "[...document.querySelectorAll('table.heat td[title]')].map(td => [td.innerText, td.title, td.className])"


def test_over_any_baseline_speed_ups_read_like_those_of_a_report_over_it(
    browser: Chromium, page: Path, scaling_run: RunFile, tmp_path: Path
) -> None:
    browser.open(page, 1600, fragment="#speedup?baseline=slow/blocked")
    chosen = browser.run(SPEEDUPS)
    browser.open(static(scaling_run, tmp_path, baseline="slow/blocked"), 1600)
    assert chosen == browser.run(SPEEDUPS)
    assert any("over slow/blocked" in title for _, title, _ in chosen)


def test_winners_among_some_read_like_those_of_a_run_without_the_others(
    browser: Chromium, page: Path, scaling_run: RunFile, tmp_path: Path
) -> None:
    titles = "[...document.querySelectorAll('#winners-by-group-1 td')].map(td => [td.innerText, td.title])"
    browser.open(page, 1600, fragment="#answer?hide=slow/plain")
    chosen = browser.run(titles)
    left = [line for line in scaling_run.records if line["implementation"] != "slow/plain"]
    browser.open(static(dataclasses.replace(scaling_run, records=left), tmp_path), 1600)
    assert chosen == browser.run(titles)
    assert any("within noise of" in title for _, title in chosen)
    assert any("ahead of" in title for _, title in chosen)


def test_the_page_writes_numbers_as_the_program_does(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    noise = random.Random(3)
    values = [0.0, 1.0, 999.5, 9.996, *(10 ** noise.uniform(-6, 14) for _ in range(500))]
    tokens = [1, 1000, 1024, 1536, 2**20, *(noise.randrange(1, 2**22) for _ in range(100))]
    for name, given in (
        ("number", values),
        ("duration", values),
        ("size", values),
        ("times", values),
        ("length", tokens),
    ):
        write = getattr(units, name)
        assert browser.run(f"{json.dumps(given)}.map((value) => units.{name}(value))") == [write(one) for one in given]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a report of 125 groups of cases: 3,000 cells, one process each."""
    folder = tmp_path_factory.mktemp("large")
    return write_report([read_run(large_run(folder / "large.jsonl", 3000, 3, 1))], folder / "report")


def test_a_large_page_holds_what_is_on_show_and_not_every_row(browser: Chromium, large: Path) -> None:
    browser.open(large, 1600)
    rows = "document.querySelectorAll('#winners-by-group-1 tbody tr').length"
    # Half of them are commands and laws, whose number is limited; 3,000 cells would be one row each.
    assert browser.run("document.querySelectorAll('tr').length") < 2300
    assert browser.run("document.querySelectorAll('table.heat[data-group]').length") == 12
    assert browser.run(rows) == 60
    pager = "document.querySelector('#winners-by-group-1 + .pager')"
    assert "Groups 1 to 60 of 125" in browser.run(f"{pager}.innerText")
    for _ in range(2):
        browser.run(f"{pager}.querySelector('button:last-of-type').click()")
    assert "Groups 121 to 125 of 125" in browser.run(f"{pager}.innerText")
    assert browser.run(rows) == 5


def test_sums_over_groups_follow_the_filters_and_read_like_what_was_written(browser: Chromium, large: Path) -> None:
    summary = "[...document.querySelectorAll('#winners-1 tr, #speedup-mean-0 tr')].map(row => row.innerText.trim())"
    browser.open(large, 1600)
    before = browser.run(summary)
    assert any(row.startswith("all") and "of 125" in row for row in before)
    choose = """(() => { const s = document.querySelector('#filters select[name="mask"]');
      s.value = "%s"; s.dispatchEvent(new Event("change")); })()"""
    browser.run(choose % "causal")
    chosen = browser.run(summary)
    assert any(row.startswith("all") and "of 48" in row for row in chosen)
    assert not any(row.startswith("mask") for row in chosen)
    browser.run(choose % "")
    assert browser.run(summary) == before
    for number in (1, 2):
        browser.run(f"document.querySelector('#filters input[name=\"family-{number}/kernel\"]').click()")
    (row,) = [one for one in browser.run(summary) if one.startswith("all") and "alone" in one]
    assert "125 alone" in row, "who is alone has not won"


def test_a_group_is_drawn_when_it_is_chosen_and_stays_in_the_address(browser: Chromium, large: Path) -> None:
    browser.open(large, 1600)
    browser.run("document.querySelector('#winners-by-group-1 tbody tr:nth-child(40) a').click()")
    browser.wait("document.querySelectorAll('.explore figure.is-live').length == 2")
    label = browser.run("document.querySelector('.explore select').selectedOptions[0].textContent")
    assert label == browser.run("document.querySelector('#winners-by-group-1 tbody tr:nth-child(40) a').textContent")
    said = browser.run("document.querySelector('.explore svg').getAttribute('aria-label')")
    assert label in said
    assert "At 16k: least" in said
    assert browser.run("document.querySelectorAll('.explore details tbody tr').length") == 24
    assert browser.run("location.hash") == "#explore?group=39"
    assert browser.complaints == []


def test_without_scripts_a_large_page_says_what_it_leaves_out_and_where_that_is(browser: Chromium, large: Path) -> None:
    browser.open(large, 1600, scripts=False)
    assert browser.run("document.querySelector('#winners-by-group-1 + p').innerText") == (
        "65 more groups: data/winners.csv has each case."
    )
    assert "data/cells.csv" in browser.run("document.querySelector('section#explore').innerText")
    assert browser.run(OVERFLOW) == 0


def test_charts_come_to_life_under_a_policy_that_forbids_eval_and_everything_from_elsewhere(
    browser: Chromium, page: Path, tmp_path: Path
) -> None:
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    strict = tmp_path / "strict.html"
    meta = f'<head>\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    strict.write_text(page.read_text(encoding="utf-8").replace("<head>", meta, 1), encoding="utf-8")
    browser.open(strict, 1600)
    bring_all_to_life(browser)
    assert browser.complaints == []


def test_all_that_a_screen_reader_meets_has_a_name_and_a_chart_is_one_picture(browser: Chromium, page: Path) -> None:
    browser.open(page, 1600)
    bring_all_to_life(browser)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tree = browser.send("Accessibility.getFullAXTree")["nodes"]
    met = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    roles = {role for role, _ in met}
    assert {"image", "figure", "table", "combobox", "checkbox", "spinbutton", "button", "navigation"} <= roles
    assert not {role for role in roles if role.startswith("graphics")}
    quiet = {"image", "figure", "table", "region", "combobox", "checkbox", "spinbutton", "button", "link", "form"}
    assert [role for role, name in met if role in quiet and not name.strip()] == []
    assert sum(1 for role, _ in met if role == "image") == 20
