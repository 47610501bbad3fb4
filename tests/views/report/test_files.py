"""A report's folder is written completely or not at all, and never replaces other content."""

from __future__ import annotations

import errno
import importlib.util
import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from attnbench.cases.case import make_case
from attnbench.errors import UsageError
from attnbench.views.report import write
from attnbench.views.report.charts.vega import vega_bundle
from attnbench.views.report.write import write_report
from tests.views.conftest import timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attnbench.store.reader import RunFile


ENDS = ("csv", "parquet")
FILES = sorted(
    ["index.html", "report.md", "data"]
    + [f"{stem}.{end}" for stem in ("agreement-1", "memory-1", "roofline-1", "time-1") for end in ("svg", "png")]
)


@pytest.fixture
def run(run_of: Callable[..., RunFile]) -> RunFile:
    """Return a run of one implementation at two lengths."""
    return run_of([timed(make_case(seqlen_q=n), "a/a", 1e3 * n) for n in (128, 256)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_report_is_a_page_a_markdown_twin_and_its_charts(run: RunFile, tmp_path: Path) -> None:
    out = tmp_path / "reports" / "mine"
    assert write_report([run], out) == out / "index.html"
    assert names(out) == FILES
    assert names(out.parent) == ["mine"], "nothing is left beside it"
    named = re.findall(r"\(([\w-]+\.svg)\)", (out / "report.md").read_text())
    assert sorted(named) == [name for name in FILES if name.endswith(".svg")]
    stems = ("agreement", "cells", "samples", "scaling", "winners")
    assert names(out / "data") == [f"{stem}.{end}" for stem in stems for end in ENDS]


def test_a_chart_by_itself_has_a_ground_and_a_title(run: RunFile, tmp_path: Path) -> None:
    write_report([run], tmp_path / "out")
    chart = ET.parse(tmp_path / "out" / "time-1.svg").getroot()  # noqa: S314 - a file of our own
    title, ground = list(chart)[:2]
    assert title.text is not None
    assert title.text.startswith("Time of one call against seqlen, 128 to 256")
    assert ground.attrib["fill"] == "#fcfcfa"


def test_every_number_is_there_as_csv_and_as_parquet_alike(run: RunFile, tmp_path: Path) -> None:
    write_report([run], tmp_path / "out")
    data = tmp_path / "out" / "data"
    for stem in ("agreement", "cells", "samples", "scaling", "winners"):
        plain = pd.read_csv(data / f"{stem}.csv")
        packed = pd.read_parquet(data / f"{stem}.parquet")
        assert list(plain) == list(packed)
        assert len(plain) == len(packed) > 0
    cells = pd.read_parquet(data / "cells.parquet")
    assert cells["time_median_ns"].tolist() == [128_000.0, 256_000.0]
    assert cells["memory_peak_bytes"].tolist() == [512 * 128, 512 * 256]
    assert pd.read_csv(data / "agreement.csv")["error_ratio"].tolist() == [0.2, 0.2]
    assert pd.read_csv(data / "agreement.csv")["tensor"].tolist() == ["out", "out"]
    samples = [json.loads(text) for text in pd.read_csv(data / "samples.csv")["time_samples_ns"]]
    assert samples == [run.records[0]["time_samples_ns"], run.records[1]["time_samples_ns"]]


def test_speed_ups_crossovers_and_lengths_that_fit_are_there_as_numbers_too(
    scaling_run: RunFile, tmp_path: Path
) -> None:
    write_report([scaling_run], tmp_path / "out")
    speedups = pd.read_parquet(tmp_path / "out" / "data" / "speedups.parquet")
    longest = speedups[(speedups.implementation == "fast/fused") & speedups.case.str.contains("s4096 .* float32$")]
    assert longest["speedup"].tolist() == pytest.approx([(40_000 + 0.9 * 4096**2) / (90_000 + 0.1 * 4096**2)], rel=0.03)
    assert set(speedups["baseline"]) == {"slow/plain"}
    budgets = pd.read_parquet(tmp_path / "out" / "data" / "budgets.parquet")
    plain = budgets[(budgets.implementation == "slow/plain") & (budgets.budget_bytes == 2**30)]
    assert plain["largest_seqlen"].tolist() == pytest.approx([(2**30 / 8) ** 0.5] * 4, rel=0.02)
    assert len(pd.read_parquet(tmp_path / "out" / "data" / "crossovers.parquet")) > 0


def test_a_baseline_that_no_run_has_is_refused(run: RunFile, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run has an implementation 'x/y'; there are: a/a"):
        write_report([run], tmp_path / "out", baseline="x/y")


def test_the_library_of_the_charts_is_bundled_once_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "attnbench"))
    first = vega_bundle()
    (kept,) = (tmp_path / "attnbench").iterdir()
    kept.write_text("from the cache")
    assert "vegaEmbed" in first
    assert vega_bundle() == "from the cache"
    kept.unlink()
    kept.mkdir()
    assert vega_bundle() == first
    assert [*(tmp_path / "attnbench").iterdir()] == [kept], "what could not be moved there is removed"
    kept.rmdir()
    (tmp_path / "attnbench").rmdir()
    (tmp_path / "attnbench").write_text("in the way")
    assert vega_bundle() == first


def test_an_existing_folder_is_refused(run: RunFile, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match=r"out exists already; --force replaces it$"):
        write_report([run], tmp_path / "out")


def test_force_replaces_a_report_whole(run: RunFile, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_report([run], out)
    (out / "time-99.svg").write_text("of an older report")
    write_report([run], out, force=True)
    assert names(out) == FILES
    assert names(tmp_path) == ["out", "run.jsonl"]


def test_force_never_replaces_what_is_no_report(run: RunFile, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not a report, so it is not replaced"):
        write_report([run], home, force=True)
    with pytest.raises(UsageError, match="is not a report, so it is not replaced"):
        write_report([run], home / "thesis.tex", force=True)
    assert names(home) == ["thesis.tex"]


def test_a_report_that_fails_leaves_the_old_one_and_nothing_else(
    run: RunFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_report([run], out)
    before = (out / "index.html").read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write, "_write_files", full_disk)
    with pytest.raises(UsageError, match=r"out cannot be written: No space left on device$"):
        write_report([run], out, force=True)
    assert (out / "index.html").read_bytes() == before
    assert names(tmp_path) == ["out", "run.jsonl"]


def test_a_report_that_cannot_be_moved_into_place_leaves_the_old_one_there(
    run: RunFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_report([run], out)
    rename = type(out).rename

    def stubborn(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(type(out), "rename", stubborn)
    with pytest.raises(UsageError, match="Permission denied"):
        write_report([run], out, force=True)
    assert "index.html" in names(out)


def test_a_missing_library_is_one_sentence_with_its_cure(
    run: RunFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else find_spec(name))
    with pytest.raises(UsageError) as refused:
        write_report([run], tmp_path / "out")
    assert str(refused.value) == "reports need jinja2: pip install 'attnbench[report]'"
    assert not (tmp_path / "out").exists()


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one run"):
        write_report([], tmp_path / "out")
