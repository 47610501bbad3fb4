"""The page begins with the answer, works offline, is readable without charts, and has no empty ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.cases.case import make_case
from attnbench.units import number
from attnbench.views.cells import cells_of
from attnbench.views.report import blocks as blocks_module
from attnbench.views.report.content import report_of
from attnbench.views.report.page import html_page, markdown_page
from attnbench.views.report.sections.results.agreement import error_table
from attnbench.views.show import answer
from tests.views.conftest import LENGTHS, failed, record, timed
from tests.views.report.parsed_page import Element, Page, figures, page_of, section

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile

SECTIONS = [
    "answer", "winners", "time", "speedup", "memory", "scaling", "roofline", "agreement", "run", "conditions",
    "failures", "provenance", "repeat",
]  # fmt: skip


@pytest.fixture(scope="module")
def source(scaling_run: RunFile) -> str:
    return html_page(report_of([scaling_run]))


@pytest.fixture(scope="module")
def page(source: str) -> Element:
    return Page(source).root


def column_of(figure: Element, title: str) -> list[str]:
    """Return the cells below a title in the figure's table."""
    (table,) = figure.all("table")
    head, *rows = [[cell.words().strip() for cell in row.children] for row in table.all("tr")]
    return [row[head.index(title)] for row in rows]


def test_the_sections_keep_their_anchors_and_the_answer_comes_first(page: Element) -> None:
    assert [one.attributes["id"] for one in page.all("section")] == SECTIONS


def test_every_link_leads_to_a_place_on_the_page_and_no_place_is_there_twice(page: Element) -> None:
    places = [one.attributes["id"] for one in page.all() if "id" in one.attributes]
    links = [one.attributes["href"] for one in page.all("a")]
    assert len(places) == len(set(places))
    assert {link.removeprefix("#") for link in links} <= set(places)
    assert set(SECTIONS) <= {link.removeprefix("#") for link in links}


def test_nothing_is_loaded_from_anywhere_and_without_vega_nothing_is_executed(source: str, page: Element) -> None:
    assert {one.tag for one in page.all()}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base"})
    for element in page.all():
        assert not any(name.startswith("on") or name in ("src", "srcset") for name in element.attributes), element
    without_namespaces = re.sub(r' xmlns(:\w+)?="[^"]*"', "", source)
    assert "://" not in without_namespaces
    assert not re.search(r"@import|url\(", source)


def test_every_chart_says_what_it_shows_and_has_its_numbers_beside_it(page: Element) -> None:
    found = page.all("figure")
    assert len(found) == 4 + 4 + 2 * 4 + 2 + 2  # time, memory, exponents of both, roofline, agreement
    for figure in found:
        (chart,) = [svg for svg in figure.all("svg") if svg.attributes.get("role") == "img"]
        assert chart.attributes["role"] == "img"
        assert len(chart.attributes["aria-label"]) > 40
        (table,) = figure.all("details")[0].all("table")
        assert len(table.all("tr")) > 2


def test_the_answer_is_the_sentence_that_the_terminal_ends_with(page: Element, scaling_run: RunFile) -> None:
    (lead,) = [one for one in section(page, "answer").all("p") if one.attributes.get("class") == "lead"]
    assert lead.text == " ".join(answer(scaling_run).facts["sentences"])
    assert lead.text.startswith("fast/fused is fastest in 16 of 24 cases: ")
    assert "4 wrong" in section(page, "answer").words()


def test_the_first_screen_has_time_memory_and_who_gains_what(page: Element) -> None:
    first = section(page, "answer")
    assert [figure.attributes["id"] for figure in first.all("figure")] == ["time-1", "memory-1"]
    said = "Memory of one call at seqlen 4k: 128 MiB for slow/plain against 2.00 MiB for picky/unmasked."
    assert said in first.words()
    (gains,) = [one for one in first.all("table") if one.attributes.get("class") == "bars"]
    lines = [row.all("td") for row in gains.all("tr")[1:]]
    rows = [[cell.words().strip() for cell in line] for line in lines]
    assert [row[0] for row in rows] == ["fast/fused", "slow/blocked", "slow/plain", "picky/unmasked"]
    assert rows[2] == ["slow/plain", "1.00×", "the same", "24 of 24"]
    bars = [float(line[1].attributes["style"].removeprefix("--bar: ").rstrip("%")) for line in lines]
    assert bars[0] == 100
    assert bars == sorted(bars, reverse=True)


def test_what_cannot_run_here_is_counted_in_a_line_and_told_at_the_end(page: Element) -> None:
    words = section(page, "answer").words()
    assert "cannot run here" in words
    assert "4 unavailable" not in section(page, "failures").words()
    captions = [caption.text for caption in section(page, "failures").all("caption")]
    assert captions == ["Failed", "Cannot run here"]


def test_what_the_scenario_leaves_out_is_listed_with_its_reason(run_of: Callable[..., RunFile]) -> None:
    rules = [
        {"device": None, "implementation": "^slow/", "reason": "it takes minutes", "seqlen": "> 8k"},
        {"device": "cuda", "implementation": None, "reason": "the other device's", "heads": [2, 4]},
        {"device": "cpu", "implementation": None, "reason": None, "heads": [2, 4]},
    ]
    lines = [timed(make_case(seqlen_q=128), "a/a", 1e6)]
    found = section(page_of(run_of(lines, scenario={"name": "s", "exclude": rules})), "failures")
    rows = [[cell.words().strip() for cell in row.all("td")] for row in found.all("tr")[1:]]
    assert rows == [["implementation ^slow/, seqlen > 8k", "it takes minutes"], ["heads 2 or 4", "no reason is given"]]


def test_wrong_cells_have_no_time_and_are_no_winners(run_of: Callable[..., RunFile]) -> None:
    case = make_case(seqlen_q=128)
    page = page_of(run_of([timed(case, "a/a", 1e6), failed(case, "b/b", "wrong", "off", out_error_ratio=9.0)]))
    assert "a/a alone has a time: 1.00 ms." in section(page, "answer").words()
    (figure,) = figures(page, "time")
    assert "b/b" not in figure.words()
    assert "b/b" in figures(page, "agreement")[0].words()


def test_failures_are_listed_by_reason(page: Element) -> None:
    rows = [row.all("td") for row in section(page, "failures").all("tr")]
    statuses = [row[0].words().strip() for row in rows if row]
    assert statuses == ["crashed", "out_of_memory", "timeout", "wrong", "unavailable", "unsupported"]


def test_speed_ups_name_their_baseline_and_count_what_they_are_over(page: Element) -> None:
    words = section(page, "speedup").words()
    assert "Speed-ups are over slow/plain, the scenario's baseline." in words
    assert "12 of 24 cells" in words


def test_without_a_baseline_in_the_scenario_the_most_complete_implementation_stands_in_and_it_is_said(
    run_of: Callable[..., RunFile],
) -> None:
    short, long = make_case(seqlen_q=128), make_case(seqlen_q=256)
    lines = [timed(short, "a/a", 1e6), timed(short, "b/b", 2e6), timed(long, "b/b", 4e6)]
    words = section(page_of(run_of(lines, scenario={"name": "mine"})), "speedup").words()
    assert "Speed-ups are over b/b, which has a time in the most cases" in words


def test_commands_repeat_every_cell_that_can_be_had_here(page: Element) -> None:
    commands = [code.text for code in section(page, "repeat").all("code")]
    assert "attnbench run -i '^fast/fused$' -a seqlen_q=128" in commands
    assert not any("gone/library" in command for command in commands)


def test_provenance_tells_machine_versions_command_and_seed(page: Element) -> None:
    words = section(page, "provenance").words()
    facts = ("Imaginary 9000", "versions.torch", "2.13.0", "attnbench run scaling", "v1-aaaa", "408 of 408 planned")
    for fact in facts:
        assert fact in words, fact


def test_a_single_length_is_drawn_as_dots_and_not_as_a_curve(run_of: Callable[..., RunFile]) -> None:
    case = make_case(seqlen_q=512)
    page = page_of(run_of([timed(case, name, 1e6 * n) for n, name in enumerate(("a/a", "b/b", "c/c"), start=1)]))
    (figure,) = figures(page, "time")
    labels = [text.text for text in figure.all("text")]
    assert {"a/a", "b/b", "c/c", "1.00 ms", "3.00 ms", "time of one call"} <= set(labels)
    assert "seqlen" not in labels
    assert "seqlen 512" in figure.all("figcaption")[0].words()


def test_a_group_in_which_nothing_was_measured_has_no_chart(run_of: Callable[..., RunFile]) -> None:
    plain, causal = make_case(seqlen_q=128), make_case(seqlen_q=128, mask="causal")
    page = page_of(run_of([timed(plain, "a/a", 1e6), failed(causal, "a/a", "error", "oops")]))
    (caption,) = [figure.all("figcaption")[0].words().strip() for figure in figures(page, "time")]
    assert caption.startswith("Time: no mask · forward")


def test_a_run_without_a_single_time_is_still_a_report(run_of: Callable[..., RunFile]) -> None:
    page = page_of(run_of([failed(make_case(seqlen_q=n), "a/a", "error", "oops") for n in (128, 256)]))
    assert figures(page, "time") == figures(page, "memory") == figures(page, "agreement") == []
    assert "Nothing was timed" in section(page, "answer").words()
    assert "No time was measured" in section(page, "time").words()
    assert "No output was judged" in section(page, "agreement").words()


def test_a_run_that_only_checked_says_in_its_answer_whether_all_agree(run_of: Callable[..., RunFile]) -> None:
    case = make_case(seqlen_q=128)
    page = page_of(run_of([record(case, "a/a", out_error_ratio=0.25), record(case, "b/b", out_error_ratio=0.5)]))
    words = section(page, "answer").words()
    assert "Of 2 judged cells, none is wrong. The worst error is 0.500 of its budget: b/b in float32." in words


def test_a_run_without_any_record_is_still_a_report(run_of: Callable[..., RunFile]) -> None:
    assert "Nothing was timed" in section(page_of(run_of([])), "answer").words()


def test_memory_of_zero_cannot_be_drawn_and_is_counted(run_of: Callable[..., RunFile]) -> None:
    cases = [make_case(seqlen_q=n) for n in (128, 256, 512)]
    lines = [timed(case, "a/a", 1e6, memory_peak_bytes=peak) for case, peak in zip(cases, (0, 0, 4096), strict=True)]
    (figure,) = figures(page_of(run_of(lines)), "memory")
    assert "2 readings of 0 B cannot be drawn on a logarithmic axis." in figure.words()


def test_what_is_missing_from_a_run_is_said_beside_the_answer(run_of: Callable[..., RunFile]) -> None:
    run = run_of([timed(make_case(seqlen_q=128), "a/a", 1e6)], cells_planned=5)
    assert "is incomplete: 1 of 5 planned records are there." in section(page_of(run), "answer").words()


def test_names_and_reasons_are_text_and_never_markup(run_of: Callable[..., RunFile]) -> None:
    evil = "<script>alert(1)</script>"
    case = make_case(seqlen_q=128)
    lines = [timed(case, "a/<b>", 1e6), timed(case, "b/&amp;", 2e6), failed(case, "c/c", "error", evil)]
    run = run_of(lines, scenario={"name": evil, "baseline": "a/<b>"})
    page = page_of(run)
    assert not page.all("script")
    assert not page.all("b")
    assert evil in section(page, "failures").words()
    assert page.all("h1")[0].text == evil
    assert "a/<b>" in [text.text for text in figures(page, "time")[0].all("text")]
    assert "<script>" not in markdown_page(report_of([run]))


def test_an_implementation_has_the_same_colour_wherever_it_is_drawn(page: Element, scaling_run: RunFile) -> None:
    marks = report_of([scaling_run]).marks
    assert len({(mark.colour, mark.shape) for mark in marks.values()}) == len(marks)
    for figure in [*figures(page, "time"), *figures(page, "memory")]:
        colours = {path.attributes.get("stroke") for path in figure.all("path")} - {None}
        assert marks["fast/fused"].colour in colours


def test_implementations_that_nothing_is_drawn_of_take_no_colour_from_the_others(scaling_run: RunFile) -> None:
    assert "gone/library" not in report_of([scaling_run]).marks


def test_of_a_large_sweep_some_charts_are_left_out_and_it_is_said(
    run_of: Callable[..., RunFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_module, "MOST_CHARTS", 4)
    monkeypatch.setattr(blocks_module, "DRAWN_OF_LARGE", 2)
    lines = [timed(make_case(seqlen_q=128, head_dim=d), "a/a", 1e6) for d in (16, 32, 64, 128, 256)]
    page = page_of(run_of(lines))
    assert len(figures(page, "time")) == 1 + 2
    assert "2 more groups of cases are not drawn here" in section(page, "time").words()


def test_several_runs_are_told_apart_by_their_files_names(run_of: Callable[..., RunFile]) -> None:
    case = make_case(seqlen_q=128)
    one = run_of([timed(case, "a/a", 1e6)], name="before.jsonl")
    other = run_of([timed(case, "a/a", 2e6)], name="after.jsonl", scenario={"name": "other"})
    page = page_of(one, other)
    assert page.all("h1")[0].text == "scaling and other"
    captions = [figure.all("figcaption")[0].words() for figure in figures(page, "time")]
    assert [caption.split("Time:")[-1].split(":")[0].strip() for caption in captions] == ["before", "after"]


def test_markdown_has_the_same_sections_and_a_file_for_each_chart(scaling_run: RunFile) -> None:
    text = markdown_page(report_of([scaling_run]))
    assert re.findall(r'<a id="(\w+)"></a>', text) == SECTIONS
    images = re.findall(r"!\[([^\]]+)\]\(([\w-]+)\.svg\)", text)
    assert [stem for _, stem in images] == [
        "time-1",
        "memory-1",
        *(f"time-{i}" for i in range(2, 5)),
        *(f"memory-{i}" for i in range(2, 5)),
        *(f"scaling-{i}" for i in range(1, 9)),
        "roofline-1",
        "roofline-2",
        "agreement-1",
        "agreement-2",
    ]
    assert all(len(alt) > 40 for alt, _ in images)
    assert text.count("<details>") == text.count("</details>")
    assert len(unfolded(text).split("\n\n")) < 60, "it is a page to read"


def unfolded(text: str) -> str:
    """Return Markdown without folded parts."""
    while (plain := re.sub(r"<details>(?:(?!<details>).)*?</details>\n", "", text, flags=re.DOTALL)) != text:
        text = plain
    return text


def test_the_numbers_of_a_chart_are_those_of_the_run(page: Element, scaling_run: RunFile) -> None:
    table = figures(page, "time")[0].all("table")[0]
    rows = [[cell.words().strip() for cell in row.all("td")] for row in table.all("tr")[1:]]
    assert len(rows) == 4 * len(LENGTHS)
    medians: list[Any] = sorted(
        line["time_median_ns"]
        for line in scaling_run.records
        if (line["implementation"], line["seqlen_q"], line["dtype"], line["mask"])
        == ("fast/fused", 4096, "float32", "none")
    )
    (shown,) = [row[2] for row in rows if row[:2] == ["4k", "fast/fused"]]
    assert "median, µs" in [head.words().strip() for head in table.all("th")]
    assert shown == number(medians[1] / 1e3)


def test_the_map_names_the_fastest_its_lead_and_ties(page: Element) -> None:
    (table,) = [one for one in section(page, "winners").all("table") if one.attributes.get("class") == "map"]
    rows = {row.all("th")[0].words().strip(): row.all("td") for row in table.all("tr")[1:]}
    assert len(rows) == 4
    first, *_, last = rows["float32 · no mask"]
    assert "slow/plain" in first.words()
    assert "fast/fused" in last.words()
    assert "≈" not in last.words()
    assert "ahead of slow/blocked" in last.attributes["title"]
    ties = [cell for cells in rows.values() for cell in cells if "tie" in cell.attributes["class"]]
    assert len(ties) == 4
    assert all("≈" in cell.words() for cell in ties)


def test_wall_time_stands_beside_the_device_s_where_it_was_taken(run_of: Callable[..., RunFile]) -> None:
    cases = [make_case(seqlen_q=n) for n in (128, 256)]
    run = run_of([timed(case, "a/a", 1e6, time_wall_ns=1.25e6) for case in cases])
    (figure,) = figures(page_of(run), "time")
    assert column_of(figure, "wall, ms") == ["1.25", "1.25"]
    assert "device's time" in section(page_of(run), "time").words()


def test_the_time_to_launch_stands_beside_them_where_it_was_taken(run_of: Callable[..., RunFile]) -> None:
    cases = [make_case(seqlen_q=n) for n in (128, 256)]
    (figure,) = figures(page_of(run_of([timed(case, "a/a", 1e6, host_enqueue_ns=4321.0) for case in cases])), "time")
    assert "launch" in figure.words()
    assert column_of(figure, "launch, µs") == ["4.32", "4.32"]
    (without,) = figures(page_of(run_of([timed(case, "a/a", 1e6) for case in cases])), "time")
    assert "launch" not in without.words()


def test_known_disagreements_of_what_was_run_are_listed(run_of: Callable[..., RunFile]) -> None:
    run = run_of([timed(make_case(seqlen_q=128), "torch/sdpa-cudnn", 1e6)])
    words = section(page_of(run), "agreement").words()
    assert "pytorch#196678" in words
    assert "pytorch#191937" not in words, "that one is another implementation's"


def test_agreement_tells_the_worst_element_and_who_is_not_deterministic(run_of: Callable[..., RunFile]) -> None:
    case = make_case(seqlen_q=128)
    worst = timed(
        case, "a/a", 1e6, out_error_ratio=0.9, out_error_worst=(0, 3, 17, 5), deterministic=False, spread_rel=1e-7
    )
    words = section(page_of(run_of([worst])), "agreement").words()
    assert "batch 0, head 3, row 17, column 5" in words
    assert "Not deterministic, calls on equal inputs differed: a/a in 1 cell" in words


def test_block_sparse_cases_are_drawn_over_their_own_dense_case(run_of: Callable[..., RunFile]) -> None:
    dense = {"seqlen_q": 640, "mask": "causal"}
    sparse = {**dense, "mask": "causal & block_sparse", "mask_blocks": "local:0:0"}
    share = 640 * 65 / 2 / (640 * 641 / 2)
    lines = [timed(make_case(**dense), name, 1e6) for name in ("a/skips", "b/masks", "c/dense-alone")]
    lines += [timed(make_case(**sparse), "a/skips", 2e5), timed(make_case(**sparse), "b/masks", 1e6)]
    found = section(page_of(run_of(lines)), "density")
    (figure,) = figures(found, "density")
    assert column_of(figure, "visible") == ["100 %", "100 %", "10.1 %", "10.1 %"]
    assert column_of(figure, "speed-up") == ["1.00×", "1.00×", "5.00×", "1.00×"]
    assert [float(text) for text in column_of(figure, "of the ideal")] == pytest.approx(
        [1, 1, 5 * share, share], rel=0.01
    )


def test_without_block_sparse_cases_there_is_no_such_section(source: str) -> None:
    assert 'id="density"' not in source


def test_the_median_error_of_two_cells_lies_between_them(run_of: Callable[..., RunFile]) -> None:
    cells = [timed(make_case(seqlen_q=n), "a/a", 1e6, out_error_ratio=n / 1024) for n in (128, 256)]
    (row,) = error_table(cells_of(run_of(cells))).rows
    assert (row["median"], row["worst"]) == (0.1875, 0.25)
