"""The times of a replayed model, checked against numbers worked out by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import attnbench
from attnbench import UsageError
from attnbench.store.capture import Capture, CapturedCall, UnmatchedCall, write_capture
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from tests.views.conftest import failed, timed, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.api import ReplayedModel
    from attnbench.cases.case import Case
    from tests.conftest import Command

SCENARIO = """
description = "The attention of a model"
tags = ["captured"]
[shapes.call-1]
seqlen = 128
mask = "causal"
[shapes.call-2]
seqlen = 64
"""
MS = 1e6  # in ns


@dataclasses.dataclass(frozen=True)
class Written:
    """A capture in a folder: twelve calls took 80 ms, four took 20 ms, and the model took 1 s."""

    path: Path
    cases: dict[str, Case]

    def run(self, records: Sequence[dict[str, Any]], name: str = "run.jsonl", **header: Any) -> Path:
        return write(self.path.parent / name, records, **header)

    def timed(self, shape: str, name: str, median_ms: float, **given: Any) -> dict[str, Any]:
        return timed(self.cases[shape], name, median_ms * MS, cell_tags=(shape,), **given)

    def failed(self, shape: str, name: str, status: str, reason: str) -> dict[str, Any]:
        return failed(self.cases[shape], name, status, reason)

    def replay(self, records: Sequence[dict[str, Any]]) -> ReplayedModel:
        return attnbench.replay(self.path, self.run(records))


@pytest.fixture
def captured(tmp_path: Path) -> Written:
    return write_folder(tmp_path / "out")


def write_folder(folder: Path, device: str = "cpu") -> Written:
    folder.mkdir()
    (folder / "scenario.toml").write_text(SCENARIO)
    common: dict[str, Any] = {"api": "sdpa", "seqlen_q": (64, 128), "seqlen_kv": (64, 128)}
    write_capture(
        Capture(
            command="attnbench capture", versions={}, device=device, threads=2, total_seconds=1.0,
            attention_seconds=0.1, overhead_seconds=0.0,
            calls=(
                CapturedCall(shape="call-1", calls=12, layers=("a", "b", "c"), seconds=0.08, **common),
                CapturedCall(shape="call-2", calls=4, seconds=0.02, **common),
            ),
            unmatched=(UnmatchedCall(what="flex_attention", calls=3, reason="it is not understood"),),
        ),
        folder,
    )  # fmt: skip
    planned = expand(load_scenario(str(folder / "scenario.toml")), {})
    return Written(folder, {one.tags[0]: one.case for one in planned})


def test_calls_times_medians_and_their_intervals_add_up(captured: Written) -> None:
    one = captured.timed("call-1", "fast/fused", 1, spread=0.01), captured.timed("call-2", "fast/fused", 2, spread=0.05)
    (total,) = captured.replay(one).replay.totals
    assert total.attention.value == pytest.approx(12 * 0.001 + 4 * 0.002)
    assert total.attention.low == pytest.approx(12 * 0.00099 + 4 * 0.0019)
    assert total.attention.high == pytest.approx(12 * 0.00101 + 4 * 0.0021)
    assert total.model.value == pytest.approx(1.0 - 0.1 + 0.02)
    assert total.model.low == pytest.approx(0.9 + 12 * 0.00099 + 4 * 0.0019)
    assert total.share_served == 1


def test_a_call_that_is_not_served_keeps_the_time_that_it_took_in_the_model(captured: Written) -> None:
    replayed = captured.replay(
        [
            captured.timed("call-1", "fast/fused", 1),
            captured.failed("call-2", "fast/fused", "unsupported", "its mask is not declared"),
            captured.timed("call-1", "slow/plain", 5),
            captured.timed("call-2", "slow/plain", 2),
        ]
    )
    first, second = replayed.replay.totals
    assert first.implementation == "fast/fused"
    assert first.attention.value == pytest.approx(12 * 0.001 + 0.02)
    assert first.share_served == pytest.approx(0.8)
    (left,) = first.unserved
    assert (left.call.shape, left.status, left.instead) == ("call-2", "unsupported", "slow/plain")
    assert second.attention.value == pytest.approx(12 * 0.005 + 4 * 0.002)
    assert "1 call" not in str(replayed)
    assert "4 calls left to the model" in replayed.view.facts["sentence"]


def test_the_best_of_each_call_is_the_fastest_or_the_models_own(captured: Written) -> None:
    replay = captured.replay(
        [
            captured.timed("call-1", "fast/fused", 1),
            captured.timed("call-1", "slow/plain", 5),
            captured.timed("call-2", "slow/plain", 2),
            captured.timed("call-2", "fast/fused", 9),  # 36 ms in all, where the model takes 20
        ]
    ).replay
    assert [part.implementation for part in replay.mix] == ["fast/fused", "slow/plain"]
    assert replay.mix_attention.value == pytest.approx(12 * 0.001 + 4 * 0.002)
    assert replay.mix_model.value == pytest.approx(0.92)
    only_slow = captured.replay(
        [captured.timed("call-1", "fast/fused", 1), captured.timed("call-2", "fast/fused", 9)]
    ).replay
    assert [part.implementation for part in only_slow.mix] == ["fast/fused", None]
    assert only_slow.mix_attention.value == pytest.approx(0.012 + 0.02)


def test_within_noise_the_mix_stays_with_the_implementation_that_is_best_alone(captured: Written) -> None:
    replay = captured.replay(
        [
            captured.timed("call-1", "fast/fused", 1), captured.timed("call-1", "slow/plain", 5),
            captured.timed("call-2", "fast/fused", 2.01), captured.timed("call-2", "slow/plain", 2),
        ]
    ).replay  # fmt: skip
    assert [part.implementation for part in replay.mix] == ["fast/fused", "fast/fused"]
    assert not replay.mix_gains


def test_cells_that_are_wrong_or_broken_are_told_and_never_counted(captured: Written) -> None:
    replayed = captured.replay(
        [
            captured.timed("call-1", "fast/fused", 1), captured.timed("call-2", "fast/fused", 2),
            captured.failed("call-1", "bad/wrong", "wrong", "out is 7 times its budget"),
            captured.failed("call-2", "bad/wrong", "crashed", "it ended with SIGSEGV"),
            captured.failed("call-1", "gone/library", "unavailable", "libgone is not installed"),
        ]
    )  # fmt: skip
    assert [one.implementation for one in replayed.replay.totals] == ["fast/fused"]
    assert [one.implementation for one in replayed.replay.others] == ["bad/wrong", "gone/library"]
    rows = [row for row in replayed.view.facts["unserved"] if row["implementation"] == "bad/wrong"]
    assert [(row["calls"], row["status"]) for row in rows] == [(["call-1"], "wrong"), (["call-2"], "crashed")]
    assert "out is 7 times its budget" in str(replayed)
    assert "libgone" not in str(replayed)


def test_memory_is_the_largest_peak_of_one_call(captured: Written) -> None:
    one = captured.timed("call-1", "fast/fused", 1, memory_peak_bytes=300)
    (total,) = captured.replay([one, captured.timed("call-2", "fast/fused", 2, memory_peak_bytes=700)]).replay.totals
    assert total.peak_bytes == 700


@pytest.mark.parametrize(
    ("times_ms", "words"),
    [
        ((1, 2), "With fast/fused the model would take about 920 ms in place of 1.00 s"),
        ((6.65, 5.05), "None is faster than the model's own attention beyond noise, 100 ms: the fastest, fast/fused"),
        ((60, 50), "None is faster than the model's own attention beyond noise, 100 ms: the fastest, fast/fused"),
    ],
)
def test_the_answer_is_one_sentence(captured: Written, times_ms: tuple[float, float], words: str) -> None:
    replayed = captured.replay(
        [captured.timed(shape, "fast/fused", ms) for shape, ms in zip(("call-1", "call-2"), times_ms, strict=True)]
    )
    assert replayed.view.facts["sentence"].startswith(words)
    assert words in " ".join(str(replayed).split())


def test_what_was_seen_and_not_understood_is_told(captured: Written) -> None:
    shown = " ".join(str(captured.replay([captured.timed(s, "a/b", 1) for s in captured.cases])).split())
    assert "Not among these calls: 3 calls of flex_attention: it is not understood" in shown


def test_the_frame_has_a_row_for_each_implementation(captured: Written) -> None:
    frame = captured.replay([captured.timed(s, "a/b", 1) for s in captured.cases]).frame
    assert list(frame["implementation"]) == ["the model's own", "a/b", "the best of each call"]
    assert list(frame["attention_s"]) == pytest.approx([0.1, 0.016, 0.016])
    assert list(frame["model_s"]) == pytest.approx([1.0, 0.916, 0.916])


def test_another_seed_is_the_same_calls(captured: Written) -> None:
    cases = {shape: dataclasses.replace(case, seed=7) for shape, case in captured.cases.items()}
    seeded = dataclasses.replace(captured, cases=cases)
    assert len(captured.replay([seeded.timed(s, "a/b", 1) for s in cases]).replay.totals[0].served) == 2


def test_a_run_of_other_calls_is_refused(captured: Written) -> None:
    other = dataclasses.replace(captured.cases["call-1"], head_dim=32, head_dim_v=32)
    foreign = captured.run([timed(other, "a/b", 1.0)])
    with pytest.raises(UsageError, match=r"run\.jsonl is not a run of .*out: it has no cell of call-1$"):
        attnbench.replay(captured.path, foreign)
    partly = captured.run([captured.timed("call-1", "a/b", 1)], "partly.jsonl")
    with pytest.raises(UsageError, match=r"partly\.jsonl is not a run of .*out: it has no cell of call-2$"):
        attnbench.replay(captured.path, partly)


def test_of_a_run_that_is_not_finished_the_rest_counts_as_not_served(captured: Written) -> None:
    begun = captured.run([captured.timed("call-1", "a/b", 1)], cells_planned=2)
    (total,) = attnbench.replay(captured.path, begun).replay.totals
    assert [one.status for one in total.unserved] == ["missing"]


def test_a_run_of_another_device_is_refused(captured: Written, tmp_path: Path) -> None:
    elsewhere = write_folder(tmp_path / "gpu", device="cuda")
    run = captured.run([captured.timed(s, "a/b", 1) for s in captured.cases])
    with pytest.raises(UsageError, match="the capture is of cuda, the run of cpu"):
        attnbench.replay(elsewhere.path, run)


def test_folders_that_hold_no_capture_are_refused_with_a_sentence(captured: Written, attnbench: Command) -> None:
    ended = attnbench("replay", "nothing")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "attnbench: nothing is no folder that attnbench capture wrote\n"
    (captured.path / "scenario.toml").write_text(SCENARIO.replace("call-2", "call-7"))
    ended = attnbench("replay", captured.path)
    assert ended.code == 2
    assert "capture.json and scenario.toml are of two captures: the scenario has no call-2" in ended.err


def test_options_and_a_run_that_is_there_are_refused(captured: Written, attnbench: Command) -> None:
    ended = attnbench("replay", captured.path, "run.jsonl", "-i", "numba")
    assert ended.code == 2
    assert "leave the options out" in ended.err


def test_the_calls_are_run_and_the_run_file_is_an_ordinary_one(captured: Written, attnbench: Command) -> None:
    ended = attnbench(
        "replay", captured.path, "-i", "naive/numpy", "--peaks", "none", "--out", "run.jsonl", "-f", "json"
    )
    assert ended.code == 0, ended.err
    assert '"implementation": "naive/numpy"' in ended.out
    assert ended.err.endswith("attnbench: the run is run.jsonl\n")
    assert attnbench("show", "run.jsonl").code == 0
    again = attnbench("replay", captured.path, "run.jsonl", "-f", "json")
    assert again.out == ended.out
    resumed = attnbench("replay", captured.path, "--resume", "run.jsonl", "-f", "json")
    assert resumed.out == ended.out


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_times_and_peaks_of_memory_are_drawn(captured: Written, tmp_path: Path, ending: str) -> None:
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    speeds = (("fast/fused", 1), ("slow/plain", 5))
    replayed = captured.replay([captured.timed(f"call-{n}", name, ms) for name, ms in speeds for n in (1, 2)])
    replayed.write_charts(tmp_path / f"chart.{ending}")
    drawn = (tmp_path / f"chart.{ending}").read_bytes()
    assert (tmp_path / f"chart-memory.{ending}").is_file()
    if ending == "svg":
        names = [drawn.find(name) for name in (b"fast/fused", b"slow/plain", b"the model's own")]
        assert 0 < names[0] < names[1] < names[2], drawn
        assert b"16.0 ms, 6.25" in drawn


def test_a_chart_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path, attnbench: Command) -> None:
    for chart, why in (("chart.pdf", "which chart.pdf is not"), ("nowhere/chart.svg", "there is no folder nowhere")):
        done = attnbench("replay", tmp_path / "out", "--chart", chart)
        assert done.code == 2
        assert why in done.err
