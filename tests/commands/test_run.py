"""``run`` and ``check`` as scripts see them: stdout, exit codes, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import attnbench as library
from tests.conftest import PLUGINS, Command, records_of

FEW = ("-i", "^naive/numpy$", "-a", "head_dim=8", "-a", "heads=2")


def test_run_prints_the_path_of_the_run_file_and_nothing_else(attnbench: Command) -> None:
    finished = attnbench("run", *FEW, "-a", "seqlen=32", "--peaks", "none")
    assert finished.code == 0, finished.err
    (path,) = (attnbench.folder / "results" / "runs").glob("*-case.jsonl")
    assert finished.out == f"{path.relative_to(attnbench.folder)}\n"
    assert "1 ok" in finished.err


def test_a_run_ends_with_its_answer_and_tells_of_itself_when_asked(attnbench: Command) -> None:
    (attnbench.folder / "mine.py").write_text((PLUGINS / "mine.py").read_text())
    both = ("-p", "mine.py", "-i", "mine/three-lines", "-i", "naive/numpy", "-a", "seqlen=32", "--peaks", "none")
    finished = attnbench("run", *both)
    lines = finished.err.splitlines()
    rows = [line for line in lines if line.split()[:1] == ["32"]]
    assert {row.split()[1] for row in rows} == {"mine/three-lines", "naive/numpy"}
    assert lines[-1].startswith("mine/three-lines is ")
    assert "naive/numpy" in lines[-1]
    assert "times calls and imports" not in finished.err
    resumed = attnbench("run", "--resume", finished.out.strip(), "-v")
    assert resumed.err.splitlines()[-1] == lines[-1]
    assert "times calls and imports" in attnbench("run", *FEW, "-a", "seqlen=32", "--peaks", "none", "-v").err


def test_a_run_says_what_checking_cost_and_show_says_it_again(attnbench: Command) -> None:
    finished = attnbench("run", *FEW, "-a", "seqlen=512", "--peaks", "none", "-v", "--out", "run.jsonl")
    (line,) = [line for line in finished.err.splitlines() if line.startswith("checking ")]
    footer = json.loads((attnbench.folder / "run.jsonl").read_text().splitlines()[-1])
    assert all(footer["shares"][f"{part}_s"] > 0 for part in ("first_calls", "warmup", "samples", "memory"))
    assert all(footer["shares"][f"{part}_s"] > 0 for part in ("repeats", "shown", "oracle", "identities"))
    assert line.removeprefix("checking") in attnbench("show", "run.jsonl", "-f", "markdown").out
    untimed = attnbench("check", *FEW, "-a", "seqlen=32", "-v")
    assert "checking " not in untimed.err


def test_a_ragged_batch_is_reported_beside_its_classes(attnbench: Command) -> None:
    batches = "batch=q5_2q1s9_q3s7,2q1s9,q5/5_q3kv7"
    finished = attnbench("run", *FEW, "-a", batches, "--peaks", "none", "--out", "run.jsonl", "-a", "score_mod=sink")
    assert finished.code == 0, finished.err
    records = {one["requests"]: one for one in records_of(attnbench.folder / "run.jsonl")}
    assert records.keys() == {"q5_2q1s9_q3s7", "2q1s9", "q5_q3s7"}
    whole = records["q5_2q1s9_q3s7"]
    assert "-a requests=q5_2q1s9_q3s7" in whole["repro"]
    assert "seqlen" not in whole["repro"]
    assert whole["tokens_per_s"] == pytest.approx(10e9 / whole["time_median_ns"])
    attnbench("report", "run.jsonl", "--out", "page")
    (section,) = (attnbench.folder / "page" / "report.md").read_text().split("## Serving steps")[1:]
    rows = [line for line in section.partition("Tokens are those")[0].splitlines() if line.startswith("| naive/numpy")]
    said = [row.split(" | ")[1].replace("\\", "") for row in rows]
    assert said == ["q5_2q1s9_q3s7", "q5_q3s7 alone", "2q1s9 alone"]


def test_a_record_holds_what_was_measured(attnbench: Command) -> None:
    attnbench("run", *FEW, "-a", "seqlen=64", "-a", "mode=forward_backward", "--out", "run.jsonl", "--threads", "1")
    (record,) = records_of(attnbench.folder / "run.jsonl")
    assert record["status"] == "ok"
    assert record["repro"].startswith("attnbench run -i '^naive/numpy$' ")
    assert record["time_ci_low_ns"] <= record["time_median_ns"] <= record["time_ci_high_ns"]
    assert len(record["time_samples_ns"]) >= 10
    assert record["first_call_ns"] > 0
    assert record["threads"] == 1
    for tensor in ("out", "lse", "dq", "dk", "dv"):
        assert 0 <= record[f"{tensor}_error_ratio"] <= 1
        assert len(record[f"{tensor}_error_worst"]) == (3 if tensor == "lse" else 4)
    assert record["rows_checked"] == record["rows_total"] == 2 * 64
    assert record["deterministic"] is True
    assert {"values-follow-the-output", "keys-follow-the-queries"} <= set(record["identities"])
    assert 0 <= record["identity_error_ratio"] <= 1
    assert record["memory_peak_bytes"] >= record["memory_output_bytes"] == 4 * (4 * 2 * 64 * 8 + 2 * 64)
    assert record["percent_of_peak"] > 0
    assert record["bound"] in ("compute", "memory")


def test_the_output_of_a_backward_pass_is_its_gradients(attnbench: Command) -> None:
    attnbench("run", *FEW, "-a", "seqlen=64", "-a", "mode=backward", "--peaks", "none", "--out", "run.jsonl")
    (record,) = records_of(attnbench.folder / "run.jsonl")
    assert record["memory_output_bytes"] == 4 * 3 * 2 * 64 * 8


def test_the_table_has_the_same_columns(attnbench: Command) -> None:
    attnbench("run", *FEW, "-a", "seqlen=16,32", "--peaks", "none", "--out", "run.jsonl")
    table = library.load(attnbench.folder / "run.jsonl")
    assert len(table) == 2
    records = records_of(attnbench.folder / "run.jsonl")
    assert set(records[0]) - {"kind"} <= set(table.columns)
    assert sorted(table["seqlen_q"]) == [16, 32]
    assert list(table["time_median_ns"]) == [record["time_median_ns"] for record in records]


def test_check_measures_agreement_only(attnbench: Command) -> None:
    finished = attnbench("check", *FEW, "-a", "seqlen=33", "--out", "run.jsonl")
    assert finished.code == 0
    (record,) = records_of(attnbench.folder / "run.jsonl")
    assert record["status"] == "ok"
    assert record["out_error_ratio"] <= 1
    assert record["time_median_ns"] is record["memory_peak_bytes"] is None
    assert {"values-of-one", "another-sequence-beside"} <= set(record["identities"])


def test_a_kernel_of_ones_own(attnbench: Command) -> None:
    finished = attnbench(
        "run", "-p", PLUGINS / "mine.py", "-i", "mine", "-a", "seqlen=64", "-a", "mask=none,causal,document",
        "-a", "mode=forward", "--peaks", "none", "--out", "run.jsonl",
    )  # fmt: skip
    assert finished.code == 0, finished.err
    statuses = {record["mask"]: record["status"] for record in records_of(attnbench.folder / "run.jsonl")}
    assert statuses == {"none": "ok", "causal": "ok", "document": "unsupported"}


def test_one_implementation_of_a_file_by_name(attnbench: Command) -> None:
    plugin = f"{PLUGINS / 'faults.py'}:faults/garbage"
    finished = attnbench("check", "-p", plugin, "-i", "faults", "-a", "seqlen=16", "--out", "run.jsonl")
    assert finished.code == 0, finished.err
    assert [r["implementation"] for r in records_of(attnbench.folder / "run.jsonl")] == ["faults/garbage"]


def test_plugins_and_threads_come_from_the_configuration(attnbench: Command) -> None:
    (attnbench.folder / "kernels.py").write_text((PLUGINS / "mine.py").read_text())
    (attnbench.folder / "pyproject.toml").write_text('[tool.attnbench]\nplugins = ["kernels.py"]\nthreads = 1\n')
    assert "mine/three-lines" in attnbench("list", "implementations").out
    attnbench("check", "-i", "mine", "-a", "seqlen=16", "--out", "run.jsonl")
    (record,) = records_of(attnbench.folder / "run.jsonl")
    assert (record["status"], record["threads"]) == ("ok", 1)


def test_dry_run_lists_the_cells_and_writes_nothing(attnbench: Command) -> None:
    finished = attnbench("run", *FEW, "-a", "seqlen=128,256", "--dry-run")
    assert finished.code == 0
    assert len(finished.out.splitlines()) == 2
    assert "naive/numpy" in finished.out
    assert "2 cells to run, about " in finished.err
    assert list(attnbench.folder.iterdir()) == []


def test_a_mask_that_hides_nearly_all_keys_is_told_once(attnbench: Command) -> None:
    decoding = ("-a", "mask=causal", "-a", "seqlen_q=1", "-a", "seqlen_kv=64,128")
    for more in (["--dry-run"], ["--peaks", "none"]):
        finished = attnbench("run", *FEW, *decoding, *more)
        assert finished.code == 0
        assert finished.err.count("write alignment=bottom_right where queries are the last tokens") == 1


def test_replicates_are_fresh_processes(attnbench: Command) -> None:
    attnbench("check", *FEW, "-a", "seqlen=16", "--out", "a.jsonl")
    attnbench("run", *FEW, "-a", "seqlen=16", "--replicates", "3", "--peaks", "none", "--out", "b.jsonl")
    assert [record["replicate"] for record in records_of(attnbench.folder / "b.jsonl")] == [0, 1, 2]


def test_a_run_that_was_killed_is_resumed_behind_its_torn_line(attnbench: Command) -> None:
    attnbench("check", *FEW, "-a", "seqlen=16,17,18", "--out", "run.jsonl")
    path = attnbench.folder / "run.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:100])
    finished = attnbench("run", "--resume", "run.jsonl")
    assert finished.code == 0, finished.err
    assert "torn" in finished.err
    assert len({record["case_id"] for record in records_of(path)}) == 3


def test_on_a_full_disk_the_run_ends_with_its_earlier_records_whole(attnbench: Command) -> None:
    """A limit on file sizes stands in for a full disk: the system reports both alike."""
    limit = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000)); from attnbench.cli.main import main; main(sys.argv[1:])"  # noqa: E501 - one program
    axes = ["-a", "seqlen=" + ",".join(map(str, range(16, 40)))]
    done = subprocess.run(
        [sys.executable, "-c", limit, "check", *FEW, *axes, "--out", "run.jsonl"],
        cwd=attnbench.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    stored = records_of(attnbench.folder / "run.jsonl")
    assert 0 < len(stored) < 24
    assert "cannot be written" in done.stderr
    assert "--resume run.jsonl" in done.stderr
    finished = attnbench("run", "--resume", "run.jsonl")
    assert finished.code == 0
    assert len(records_of(attnbench.folder / "run.jsonl")) == 24


def test_a_run_needs_no_home_and_no_git(attnbench: Command) -> None:
    finished = attnbench.process(
        "check", *FEW, "-a", "seqlen=16", "--out", "run.jsonl", HOME="/nonexistent", PATH=os.defpath
    )
    assert finished.code == 0, finished.err
    header = json.loads((attnbench.folder / "run.jsonl").read_text().splitlines()[0])
    assert header["environment"]["git"] is None


@pytest.mark.parametrize("seed", ["0", "7"])
def test_the_seed_makes_the_values(attnbench: Command, seed: str) -> None:
    attnbench("check", *FEW, "-a", "seqlen=16", "--seed", seed, "--out", "run.jsonl")
    assert records_of(attnbench.folder / "run.jsonl")[0]["seed"] == int(seed)
