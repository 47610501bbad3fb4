"""The page of a profile shows everything, executes no text, and loads nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from attnbench.profiling.parts import (
    BlocksAtPeak,
    FunctionTime,
    KernelOfCall,
    KernelsOfCall,
    LineTime,
    MemoryBlock,
    ScopeOfCall,
)
from attnbench.profiling.phases import TITLES, Phase
from attnbench.store.profile import ProfileError, write_profile
from attnbench.views.document import Table
from attnbench.views.profile.cases import cases_of
from attnbench.views.profile.marks import MARKS
from attnbench.views.profile.page import profile_report, write_profile_page
from attnbench.views.profile.sections.chart import phase_bars
from attnbench.views.profile.sections.functions import functions, instructions
from attnbench.views.report.blocks import Details
from attnbench.views.report.page import drawn_svg, pictures_of
from tests.views.profile.conftest import FLASH, SDPA, cell, failed, profile_of
from tests.views.report.chromium import CHROMIUM, Chromium
from tests.views.report.parsed_page import Page

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.store.profile import CellProfile, Profile

HOSTILE = "</script></style><script>alert(1)</script>\x1b[2J\u202e]]>--> | `a` | {{7*7}} \" onload='x'\n# owned"
HOSTILE_BLOCKS = BlocksAtPeak(bytes=1, largest=(MemoryBlock(bytes=1, count=1, stack=(HOSTILE, HOSTILE)),))
STRIPED_TIMES = {Phase.PRODUCTS: 5e6, Phase.WAITING: 3e6, Phase.QK: 1e6}


def hostile() -> CellProfile:
    """Return a cell in which every text is hostile."""
    line = LineTime(file=HOSTILE, line=1, function=HOSTILE, text=HOSTILE, phase=Phase.QK, ns=1, below_ns=1)
    function = FunctionTime(module=HOSTILE, function=HOSTILE, phase=Phase.QK, why=HOSTILE, ns=1)
    whole = cell(HOSTILE, FLASH)
    return whole.model_copy(
        update={
            "label": HOSTILE,
            "case": {HOSTILE: HOSTILE},
            "notes": (HOSTILE,),
            "lines": (line,),
            "functions": (function,),
            "instructions": tuple(
                one.model_copy(update={"function": HOSTILE, "text": HOSTILE}) for one in whole.instructions
            ),
            "stacks": tuple(one.model_copy(update={"frames": (HOSTILE,)}) for one in whole.stacks),
            "timeline": tuple(one.model_copy(update={"name": HOSTILE, "lane": HOSTILE}) for one in whole.timeline),
            "phases": tuple(one.model_copy(update={"floor_from": HOSTILE}) for one in whole.phases),
            "no_operators": HOSTILE,
            "memory": whole.memory
            and whole.memory.model_copy(update={"blocks": HOSTILE_BLOCKS, "blocks_note": HOSTILE}),
        }
    )


def written(profile: Profile, folder: Path) -> Path:
    write_profile(profile, folder)
    write_profile_page(folder)
    return folder


def test_every_file_is_written(folder: Path) -> None:
    write_profile_page(folder)
    of_cells = {
        f"{stem}-{i}.{end}" for i in (1, 2) for stem, end in (("flame", "svg"), ("flame", "folded"), ("trace", "json"))
    }
    charts = {"phases-1.svg", "memory-1.svg", "memory-2.svg"}
    assert {file.name for file in folder.iterdir()} == {"index.html", "report.md", "profile.json", *of_cells, *charts}


def test_the_page_tells_all_of_it(folder: Path) -> None:
    write_profile_page(folder)
    page = Page((folder / "index.html").read_text())
    sections = [section.attributes["id"] for section in page.root.all("section")]
    assert sections == ["phases", "lines", "functions", "instructions", "memory", "flames", "provenance"]
    words = " ".join(page.root.words().split())
    for said in (
        "torch/sdpa-flash is 2.40 ms slower than numba/flash",
        "the worker ended with SIGSEGV",
        "flash.py:14",
        "vmulps zmm3",
        "the peak is shorter than the time between two readings",
        "what is allocated at the peak, 10.0 MiB",
        "f flash.py:12 ← g call.py:3",
        "agree within 0 bytes",
        "products at 230 Gflop/s",
        "attnbench profile -a seqlen=1k -i numba/flash",
        "Imaginary 9000",
    ):
        assert said in words, said
    assert [frame.attributes["src"] for frame in page.root.all("iframe")] == ["flame-1.svg", "flame-2.svg"]


def test_lines_are_hottest_first_and_then_in_their_own_order(folder: Path) -> None:
    write_profile_page(folder)
    text = (folder / "report.md").read_text()
    lines = text[text.index("## Lines") : text.index("## Functions")]
    assert re.findall(r"`flash\.py:(\d+)`", lines)[:3] == ["14", "12", "11"]
    in_order = lines[lines.index("in its own order: 10.0 ms") :]
    assert re.findall(r"^\| (\d+|⋮) ", in_order, re.MULTILINE)[:5] == ["10", "11", "12", "⋮", "14"]


def test_markdown_holds_the_same_and_its_files_are_there(folder: Path) -> None:
    write_profile_page(folder)
    text = (folder / "report.md").read_text()
    assert "P V takes 2.0× its floor" in text
    for file in re.findall(r"\]\(([^)#]+)\)", text):
        assert (folder / file).is_file(), file


def test_a_profile_of_failed_cells_alone_is_a_page(tmp_path: Path) -> None:
    folder = written(profile_of(failed("bad/crash"), failed("bad/wrong", "wrong", "out is 40 budgets away")), tmp_path)
    words = Page((folder / "index.html").read_text()).root.words()
    assert "out is 40 budgets away." in words
    assert "crashed" in words
    assert not list(folder.glob("flame-*"))


def test_kernels_on_a_gpu_and_protons_scopes_are_told(tmp_path: Path) -> None:
    kernels = KernelsOfCall(
        calls=10, busy_ns=5e5, gaps_ns=4e3, first_launch_ns=9e3,
        kernels=(KernelOfCall(name="forward_kernel", launches=1.0, ns=5e5),),
        scopes=(ScopeOfCall(path=("decode", "join"), launches=2.0, ns=8e3),),
    )  # fmt: skip
    refused = kernels.model_copy(update={"scopes": (), "no_scopes": "Proton: RuntimeError: one subscriber"})
    cells = (failed(name, "ok").model_copy(update={"kernels": one}) for name, one in (("a", kernels), ("b", refused)))
    text = (written(profile_of(*cells), tmp_path) / "report.md").read_text()
    section = text[text.index("## Kernels on the GPU") :]
    assert re.search(r"`forward_kernel` *\| *1 *\| *500 ", section)
    assert re.search(r"`decode / join` *\| *2 *\| *8\.00 ", section)
    assert "No scopes of Triton's kernels: Proton: RuntimeError: one subscriber." in section


def test_a_file_that_is_no_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text("{}")
    with pytest.raises(ProfileError):
        write_profile_page(tmp_path)


def test_no_text_acts_on_the_page(tmp_path: Path) -> None:
    folder = written(profile_of(hostile(), cell("b/b", SDPA), failed(HOSTILE, reason=HOSTILE)), tmp_path)
    page = (folder / "index.html").read_text()
    plain = written(profile_of(cell("a/a", FLASH), cell("b/b", SDPA), failed("c/c")), tmp_path)
    scripts = len(Page((plain / "index.html").read_text()).root.all("script"))
    assert len(Page(page).root.all("script")) <= scripts
    assert not any(name.startswith("on") for one in Page(page).root.all() for name in one.attributes)
    assert "\x1b" not in page
    assert "{{7*7}}" in page


def test_no_text_acts_in_markdown(tmp_path: Path) -> None:
    folder = written(profile_of(hostile()), tmp_path)
    text = (folder / "report.md").read_text()
    assert "\n# owned" not in text
    assert "\x1b" not in text


def test_every_segment_is_drawn_and_labelled(two: Profile) -> None:
    [case] = cases_of(two)
    [rows] = phase_bars(case.profiled).spec["datasets"].values()
    for one in case.profiled:
        ends = [(row["start"], row["end"]) for row in rows if row["cell"] == one.name]
        assert [start for start, _ in ends] == [0.0, *(end for _, end in ends[:-1])]
        assert ends[-1][1] == pytest.approx(one.cell.median_ns)
    qk = rows[0]
    assert (qk["implementation"], qk["label"], qk["floor_end"]) == (TITLES[Phase.QK], "Q K^T", 2.1e6)


def test_without_a_median_nothing_has_a_share() -> None:
    case = cases_of(profile_of(cell("mine/one", FLASH, median_ns=None)))
    of_functions, of_instructions = functions(case), instructions(case)
    assert of_functions is not None
    assert of_instructions is not None
    details = of_instructions.blocks[-1]
    assert isinstance(details, Details)
    for table in (of_functions.blocks[-1], details.blocks[-1]):
        assert isinstance(table, Table)
        (column,) = [one for one in table.columns if one.title == "share"]
        assert {column.text(row) for row in table.rows} == {""}


def test_a_phase_that_shares_a_colour_is_striped() -> None:
    assert len({(mark.series, mark.shape) for mark in MARKS.values()}) == len(MARKS) == len(Phase)
    [case] = cases_of(profile_of(cell("a/a", STRIPED_TIMES)))
    [rows] = phase_bars(case.profiled).spec["datasets"].values()
    for row in rows:
        assert all(row["start"] < at < row["end"] for at in row["stripes"])
        assert bool(row["stripes"]) == (MARKS[row["implementation"]].shape == "stripes")


def test_the_report_names_both_cases_of_two() -> None:
    report = profile_report(profile_of(cell("a/a", FLASH), cell("a/a", SDPA, case_id="beef", label="seqlen 4k")))
    assert report.subtitle == "seqlen 1k, 8 heads, float32, causal, cpu, 2 threads, seqlen 4k, cpu, 2 threads"


def test_two_readings_at_one_moment_are_not_stacked(two: Profile) -> None:
    memory = two.cells[0].memory
    assert memory is not None
    twice = memory.model_copy(update={"points": (*memory.points, *memory.points)})
    report = profile_report(profile_of(two.cells[0].model_copy(update={"memory": twice})))
    [figure] = [one for section in report.sections if section.anchor == "memory" for one in pictures_of(section.blocks)]
    svg = drawn_svg(figure)
    assert "10 MiB" in svg
    # If two readings of 9 MiB were stacked, 10 MiB would be about halfway up.
    heights = [
        float(y)
        for y in re.findall(r'class="mark-rule role-mark[^"]*"[^>]*><line transform="translate\([^,]+,([^)]+)\)', svg)
    ]
    assert [height < 50 for height in heights] == [True]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt-get install chromium")
def test_a_browser_shows_it_without_complaint(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write_profile_page(folder)
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        for width in (400, 1280):
            browser.open(folder / "index.html", width)
            assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
            browser.wait("document.querySelector('#phases-1').classList.contains('is-live')")
            assert browser.complaints == []
            assert all(request.startswith(("file:", "data:")) for request in browser.requests)
        browser.open(folder / "flame-1.svg", 1280)
        count = "[...document.querySelectorAll('g')].filter((g) => g.style.display !== 'none').length"
        before = browser.run(count)
        browser.run("document.querySelectorAll('g')[1].dispatchEvent(new MouseEvent('click'))")
        assert browser.run(count) < before
        browser.run("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))")
        assert browser.run(count) == before
        found = """(() => { const field = document.querySelector('input'); field.value = 'P V';
          field.dispatchEvent(new Event('input')); return document.querySelector('span').textContent; })()"""
        assert browser.run(found) == "41.0 %"
        assert browser.complaints == []
