"""``attnbench predict``: predictions come from run files, and enter only their own table."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import attnbench as ab
from attnbench import UsageError, make_case
from attnbench.store.record import METRICS
from tests.conftest import Command, records_of
from tests.views.conftest import timed, write

if TYPE_CHECKING:
    from attnbench import Case, Implementation

BETA = 2.0


def implementation(name: str) -> Implementation:
    module = importlib.import_module("attnbench.implementations.ranks")
    found: Implementation = getattr(module, name)
    return found


def case_of(length: int) -> Case:
    return make_case(seqlen_q=length, seqlen_kv=length, heads_q=4, heads_kv=4, mask="causal")


def cell(name: str, length: int, ranks: int, **given: Any) -> dict[str, Any]:
    """Return a cell of several ranks: 0.01 ns per FLOP, 2 ns per byte, 10 µs of latency, and nothing hidden."""
    case = case_of(length)
    formula = implementation(name).sends_hook
    assert formula is not None
    sends = formula(case, ranks)
    sent = sum(one.bytes for one in sends)
    compute = 0.01 * ab.flops(case) / ranks
    talks = 1e4 * sum(one.rounds for one in sends) + BETA * sent / ranks
    values = {
        "ranks": ranks, "ranks_compute_ns": compute, "ranks_sent_bytes": sent,
        "ranks_communication_ns": talks if sent else None, "ranks_exposed": talks / (compute + talks) if sent else None,
    }  # fmt: skip
    return timed(case, f"{name}/torch@{ranks}", compute + talks, **(values | given))


def run_file(path: Path, *, ranks: tuple[int, ...] = (1, 2), lengths: tuple[int, ...] = (512, 1024, 2048)) -> Path:
    lines = [cell("ulysses", length, count) for length in lengths for count in ranks]
    scenario = {"name": "long-context", "description": "As if it had been run."}
    return write(path, lines, schema_version=9, threads=4, scenario=scenario)


def test_a_held_out_number_of_ranks_is_predicted_from_a_run_file(tmp_path: Path) -> None:
    path = run_file(tmp_path / "run.jsonl")
    frame = ab.predict(path, ranks=[4, 8], seqlen=["2k", "4k"]).frame
    (row,) = frame[(frame["ranks"] == 4) & (frame["seqlen"] == 4096)].to_dict("records")
    held_out = cell("ulysses", 4096, 4)
    assert row["predicted_compute_ns"] == pytest.approx(held_out["ranks_compute_ns"], rel=1e-6)
    assert row["predicted_communication_ns"] == pytest.approx(held_out["ranks_communication_ns"], rel=1e-6)
    assert row["predicted_time_ns"] == pytest.approx(held_out["time_median_ns"], rel=1e-6)
    assert len(frame) == 2  # 4 heads cannot be shared by 8 ranks
    refused = ab.predict(path, ranks=[4, 8], bandwidth="1Gbit/s", latency="1ms")
    assert "ulysses/torch, seqlen 2k, 8 ranks: 4 heads of queries cannot be shared by 8 ranks" in repr(refused)
    (row,) = refused.frame.to_dict("records")
    sent = cell("ulysses", 2048, 4)["ranks_sent_bytes"]
    assert row["predicted_communication_ns"] == pytest.approx(4 * 1e6 + 8 * sent / 4)


def test_predictions_enter_nothing_that_reads_records(module_attnbench: Command) -> None:
    run = run_file(module_attnbench.folder / "run.jsonl")
    before = {path: path.read_bytes() for path in module_attnbench.folder.rglob("*") if path.is_file()}
    table = module_attnbench("predict", "run.jsonl", "--ranks", "4")
    assert (table.code, table.err) == (0, "")
    assert table.out.startswith("Predicted from run.jsonl, not measured")
    lines = [line for line in table.out.splitlines() if "ulysses/torch" in line]
    assert lines
    assert all(line.startswith("predicted ") for line in lines)
    assert before == {path: path.read_bytes() for path in module_attnbench.folder.rglob("*") if path.is_file()}
    (module_attnbench.folder / "results/runs").mkdir(parents=True)
    (module_attnbench.folder / "results/runs/latest.jsonl").write_bytes(run.read_bytes())
    for form, of in (("json", "run.jsonl"), ("csv", "long-context")):  # the latest run of that scenario
        path = module_attnbench.folder / f"predicted.{form}"
        path.write_text(module_attnbench("predict", of, "--ranks", "4", "-f", form).out)
        assert "predicted" in path.read_text()
        for line in (
            ("compare", "run.jsonl", path),
            ("show", path),
            ("report", path, "--out", "page"),  # where charts of times are drawn
            ("merge", "run.jsonl", path, "--out", "merged.jsonl"),
            ("baseline", "save", path),
            ("predict", path),
        ):
            ended = module_attnbench(*line)
            assert (ended.code, ended.out) == (2, ""), line
            assert ended.err.startswith("attnbench: ")
            assert ended.err.count("\n") == 1
        with pytest.raises(UsageError):
            ab.load(path)
    assert not (module_attnbench.folder / "page").exists()
    mixed = module_attnbench.folder / "mixed.jsonl"  # nor is a line of one taken for a record
    answer = json.loads((module_attnbench.folder / "predicted.json").read_text())
    assert not {*answer["rows"][0]} & {*METRICS}
    mixed.write_text(run.read_text() + json.dumps(answer["rows"][0]) + "\n")
    assert module_attnbench("compare", mixed).code == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["few.jsonl"], "too few for a link"),
        (["none.jsonl"], "none.jsonl has no cell that ranks share: attnbench run long-context makes some"),
        (["crowded.jsonl"], "has no cell but for 3 cells of more ranks than the 1 threads that these share"),
        (["other.jsonl"], "mine/gone is not here: name its file with --plugin"),
        (["impossible.jsonl"], "ulysses/torch@2: its times of ranks cannot be true"),
        (["changed.jsonl"], "ulysses/torch@2 is not what was measured: it sent 7 bytes"),
        (["run.jsonl", "--bandwidth", "50"], "'50' is not a bandwidth, such as 50GB/s or 1Gbit/s"),
        (["run.jsonl", "--latency", "0us"], "'0us' is not a latency, such as 5us"),
        (["run.jsonl", "--ranks", "8..1000"], "doubling 8 does not reach 1000"),
        (["run.jsonl", "--ranks", "many"], "sizes such as 8, 64 or 8..1024 are needed"),
        (["run.jsonl", "--ranks", "8"], "4 heads of queries cannot be shared by 8 ranks"),
        (["long-context"], "results/runs has none of long-context yet; attnbench run long-context makes one"),
    ],
)
def test_what_cannot_be_predicted_is_one_sentence(attnbench: Command, line: list[str], said: str) -> None:
    folder = attnbench.folder
    run_file(folder / "run.jsonl")
    run_file(folder / "few.jsonl", ranks=(2,), lengths=(512, 1024))
    write(folder / "none.jsonl", [timed(case_of(512), "naive/numpy", 1e6)])
    three = [cell("ulysses", length, 2) for length in (512, 1024, 2048)]
    write(folder / "crowded.jsonl", three, schema_version=9, threads=1)
    for name, given in (
        ("other", {"implementation": "mine/gone@2"}),
        ("impossible", {"ranks_exposed": 1.5}),
        ("changed", {"ranks_sent_bytes": 7}),
    ):
        write(folder / f"{name}.jsonl", [three[0] | given, *three[1:]], schema_version=9, threads=4)
    ended = attnbench("predict", *line)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_a_run_of_ranks_is_measured_and_predicted_from(attnbench: Command) -> None:
    measured = attnbench(
        "run", "-i", "^ring/torch$", "--ranks", "1", "--ranks", "2", "--threads", "2", "-a", "seqlen=16,32,64,128",
        "-a", "heads=2", "-a", "head_dim=16", "-a", "mode=forward_backward", "--peaks", "none", "--out", "run.jsonl",
    )  # fmt: skip
    cells = records_of(attnbench.folder / "run.jsonl")
    assert len(cells) == 8, measured.err
    on_two = [one for one in cells if one["status"] == "ok" and one["ranks"] == 2]
    if len(on_two) < 3 or any(one["status"] not in {"ok", "invalid"} for one in cells):
        assert all(one["status"] in {"ok", "invalid"} for one in cells)
        pytest.skip("the machine is too busy for times to count")
    predicted = attnbench("predict", "run.jsonl", "--ranks", "4..64", "--seqlen", "1k", "--json")
    assert predicted.code == 0, predicted.err
    rows = json.loads(predicted.out)["rows"]
    assert [(row["kind"], row["ranks"]) for row in rows] == [("predicted", n) for n in (4, 8, 16, 32, 64)]
    assert all(row["predicted_time_low_ns"] <= row["predicted_time_high_ns"] for row in rows)
