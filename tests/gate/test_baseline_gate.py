"""Stored baselines: which runs may become one, and which may be compared with it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench.errors import NotComparableError
from attnbench.gate.baseline_gate import gate_stored, require_comparable, stored_rules
from attnbench.gate.baselines import BaselineError, find_baseline, save, stored, update
from attnbench.gate.judge.statistics import Rules
from attnbench.gate.verdict import GateResult
from attnbench.store.reader import RunFile, read_run
from tests.gate.conftest import CELLS, ONE, of_one, plan
from tests.views.conftest import failed, timed, write

Make = Callable[..., RunFile]


@pytest.fixture
def run(tmp_path: Path) -> Make:
    """Return a maker of runs with several processes per cell."""

    def made(
        name: str, *, factor: float = 1.0, one: float = 1.0, processes: int = 6, seed: int = 1,
        untimed: int = 0, **given: Any
    ) -> RunFile:  # fmt: skip
        rng = np.random.default_rng(seed)
        lines = [
            timed(case, name_, 1e6 * factor * (one if (case.case_id, name_) == ONE else 1.0)
                  * float(np.exp(0.01 * rng.standard_normal())), replicate=replicate)
            for case, name_ in CELLS for replicate in range(processes)
        ]  # fmt: skip
        of_one_cell = (line for line in lines if (line["case_id"], line["implementation"]) == ONE)
        for line in itertools.islice(of_one_cell, untimed):
            line["time_median_ns"] = None
        return read_run(write(tmp_path / name, lines, replicates=processes, **given))

    return made


class Nobody:
    """A progress display that shows nothing."""

    def begins(self, what: str) -> None: ...

    def ended(self) -> None: ...


@pytest.fixture
def judged(tmp_path: Path, run: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., GateResult]:
    """Return a function that judges head against a baseline, with made-up runs instead of measured ones."""

    def judge(**head: Any) -> GateResult:
        def instead(side: Any, request: Any, path: Path, **_: Any) -> RunFile:
            return run(path.name, processes=request.replicates, seed=len(path.name), **head)

        for module in ("baseline_gate", "judge.verify_speedups"):
            monkeypatch.setattr(f"attnbench.gate.{module}.run_once", instead)
        made = plan(stored_rules(Rules()), {})
        command = ["attnbench", "gate", "--baseline", "base"]
        return gate_stored(run("base.jsonl"), made, tmp_path, Nobody(), command)

    return judge


def test_a_slow_down_beyond_twice_the_tolerance_is_found_and_says_of_what_kind_it_is(
    judged: Callable[..., GateResult],
) -> None:
    result = judged(one=1.15)
    assert of_one(result).verdict == "slower"
    assert of_one(result).delta == 0.06
    assert "confirmed in 6 fresh processes" in of_one(result).sentence, "of two days there are no pairs"
    assert of_one(result).repro == "attnbench gate --baseline base", "the comparison is what shows it again"
    assert result.mode == "baseline"
    assert "not in pairs" in result.notes[0]
    assert result.rounds[0].base == "base.jsonl", "relative to the gate's folder, as its own runs are"
    assert sum(v.verdict != "same" for v in result.verdicts) == 1


def test_a_slow_down_within_twice_the_tolerance_is_not_reported(judged: Callable[..., GateResult]) -> None:
    assert of_one(judged(one=1.045)).verdict == "same"


def test_what_all_cells_have_in_common_is_told_and_not_blamed_on_the_code(judged: Callable[..., GateResult]) -> None:
    result = judged(factor=1.2)
    assert {v.verdict for v in result.verdicts} == {"same"}
    assert result.common[0].verdict == "ambiguous"
    assert "only pairs can tell" in result.common[0].sentence
    assert result.exit_code == 6


@pytest.mark.parametrize(
    ("given", "key", "threads", "words"),
    [
        ({}, "v1-bbbb", 2, "another machine"),
        ({}, "v1-aaaa", 4, "with 2 threads, not with 4"),
        ({"processes": 1}, "v1-aaaa", 2, "1 process for each cell"),
    ],
)
def test_a_baseline_that_says_nothing_here(
    run: Make, given: dict[str, Any], key: str, threads: int, words: str
) -> None:
    with pytest.raises(NotComparableError, match=words):
        require_comparable(run("base.jsonl", **given), machine_key=key, threads=threads)


def test_a_baseline_of_this_machine_is_comparable(run: Make) -> None:
    require_comparable(run("base.jsonl"), machine_key="v1-aaaa", threads=2)


@pytest.mark.parametrize("share", [2, 1])
def test_a_baseline_of_several_kinds_of_machines_is_refused(run: Make, tmp_path: Path, share: int) -> None:
    """Also refused is one whose header is of this machine but whose records are not."""
    path = Path(run("base.jsonl").path)
    header, *lines = map(json.loads, path.read_text().splitlines())
    about = {name: header[name] for name in ("created_at", "environment", "libraries", "peaks")}
    header["parts"] = [{**about, "run_id": "there", "machine_key": "v1-bbbb"}]
    for record in [line for line in lines if line["kind"] == "record"][::share]:
        record["run_id"] = "there"
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    words = r"of several kinds of machines \(v1-aaaa, v1-bbbb\)"
    with pytest.raises(NotComparableError, match=words):
        require_comparable(read_run(path), machine_key="v1-aaaa", threads=2)
    with pytest.raises(BaselineError, match=words):
        save(read_run(path), "nightly", tmp_path / "baselines")
    assert not (tmp_path / "baselines").exists()


def test_a_run_is_stored_under_its_machine_and_found_by_name(run: Make, tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    path = save(run("one.jsonl"), "nightly", folder)
    assert path == folder / "nightly" / "v1-aaaa.jsonl"
    assert find_baseline("nightly", "v1-aaaa", folder) == path
    (one,) = stored(folder)
    assert (one.name, one.cells, one.processes, one.note) == ("nightly", 30, 6, None)


def test_each_machine_finds_its_own_and_one_without_any_is_shown_another(run: Make, tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    for key in ("v1-bbbb", "v1-aaaa", "v1-cccc"):
        save(run(f"{key}.jsonl", machine_key=key), "nightly", folder)
    for key in ("v1-aaaa", "v1-bbbb", "v1-cccc"):
        assert find_baseline("nightly", key, folder).stem == key
    assert find_baseline("nightly", "v1-dddd", folder).stem == "v1-aaaa"  # its key then says why it is refused


def test_a_baseline_is_replaced_only_for_a_reason_and_the_one_before_is_kept(run: Make, tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    first = save(run("one.jsonl"), "nightly", folder).read_bytes()
    with pytest.raises(BaselineError, match="update"):
        save(run("two.jsonl", seed=2), "nightly", folder)
    with pytest.raises(BaselineError, match="for a reason"):
        update(run("two.jsonl", seed=2), " ", "nightly", folder)
    update(run("two.jsonl", seed=2), "a safer softmax", "nightly", folder)
    (one,) = stored(folder)
    assert one.note == "a safer softmax"
    (before,) = (folder / "nightly").glob("*.until-*.jsonl")
    assert before.read_bytes() == first
    update(run("three.jsonl", seed=3, created_at="2026-12-01T00:00:00+00:00"), "a faster one", "nightly", folder)
    kept = [json.loads(path.read_text())["reason"] for path in (folder / "nightly").glob("*.until-*.json")]
    assert kept == ["a safer softmax"], "the second update has renamed the note of the first, too"


def test_an_update_that_cannot_be_copied_leaves_the_baseline_as_it_was(run: Make, tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    path = save(run("one.jsonl"), "nightly", folder)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    gone = run("two.jsonl", seed=2)
    Path(gone.path).unlink()
    with pytest.raises(BaselineError, match="cannot be copied"):
        update(gone, "a safer softmax", "nightly", folder)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_cell_with_too_few_times_is_not_measured_however_many_processes_each_side_had(
    judged: Callable[..., GateResult],
) -> None:
    result = judged(untimed=2)
    assert of_one(result).verdict == "not_measured"
    assert of_one(result).sentence == "only 2 processes of one side were timed"


@pytest.mark.parametrize("given", [{"machine_key": "../../evil"}, {"scenario": {"name": "/evil"}}])
def test_a_run_file_does_not_choose_where_it_is_stored(tmp_path: Path, run: Make, given: dict[str, Any]) -> None:
    with pytest.raises(BaselineError, match=r"evil' is no name for a .*: a name must not contain slashes"):
        save(run("run.jsonl", **given), folder=tmp_path / "kept")


def test_what_is_wrong_or_incomplete_or_of_one_process_is_no_baseline(run: Make, tmp_path: Path) -> None:
    case, name = CELLS[0]
    for status in ("wrong", "crashed"):
        lines = [timed(case, "b/plain", 1e6), *(failed(case, name, status, "off", replicate=i) for i in range(3))]
        with pytest.raises(BaselineError, match=f"a/plain is {status} in it"):
            save(read_run(write(tmp_path / f"{status}.jsonl", lines, replicates=3)), "x", tmp_path)
    with pytest.raises(BaselineError, match="incomplete"):
        save(run("i.jsonl", cells_planned=999), "x", tmp_path)
    with pytest.raises(BaselineError, match="has 1 process for each cell, a baseline needs 3"):
        save(run("o.jsonl", processes=1), "x", tmp_path)


def test_an_unknown_name_lists_the_known_ones(run: Make, tmp_path: Path) -> None:
    save(run("one.jsonl"), "nightly", tmp_path / "b")
    with pytest.raises(BaselineError, match=r"no baseline 'weekly' .* \(there are: nightly\)"):
        find_baseline("weekly", "v1-aaaa", tmp_path / "b")


def test_a_large_speed_up_is_checked_on_other_inputs_here_too(judged: Callable[..., GateResult]) -> None:
    one = of_one(judged(one=0.5))
    assert one.verdict == "invalid", "the run that is made in place of the check has none of its cells"
    assert "not believed, because the check on other inputs gave no record" in one.sentence
