"""Whatever an implementation does to its worker, the run continues, reports it, and loses no other record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PLUGINS, Command, Finished, records_of

SCENARIO = """
stages = ["agreement", "time", "memory"]
[axes]
seqlen = [16, 32, 48]
[defaults]
heads = 2
head_dim = 8
[limits]
time_s = 600
memory_gib = 1
sampling_s = 0.02
"""
HANGS = SCENARIO.replace("time_s = 600", "time_s = 20")  # only endless calls reach this limit


@pytest.fixture(scope="module")
def run(module_attnbench: Command) -> tuple[Finished, list[dict[str, Any]]]:
    """Run all faulty implementations and a healthy one at three lengths; the faults begin at the second length."""
    (module_attnbench.folder / "faults.toml").write_text(SCENARIO)
    (module_attnbench.folder / "hangs.toml").write_text(HANGS)
    module_attnbench(
        "run", "hangs.toml", "-p", PLUGINS / "faults.py", "-i", "faults/hang", "--peaks", "none", "--out", "hang.jsonl"
    )
    finished = module_attnbench(
        "run", "faults.toml", "-x", "faults/hang", "-p", PLUGINS / "faults.py", "-p", PLUGINS / "raises_at_import.py",
        "-p", PLUGINS / "crashes_at_import.py", "-i", "faults", "-i", "unknown", "-i", "^naive/numpy$",
        "--peaks", "none", "--out", "run.jsonl",
    )  # fmt: skip
    return finished, [r for name in ("run", "hang") for r in records_of(module_attnbench.folder / f"{name}.jsonl")]


def of(run: tuple[Finished, list[dict[str, Any]]], name: str, *, seqlen: int | None = None) -> list[dict[str, Any]]:
    return [r for r in run[1] if r["implementation"] == name and seqlen in (None, r["seqlen_q"])]


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("faults/segfault", "crashed", "it was ended by SIGSEGV"),
        ("faults/abort", "crashed", "it was ended by SIGABRT"),
        ("faults/exit", "crashed", "it ended with exit code 7"),
        ("faults/sigkill", "crashed", "it was ended by SIGKILL"),
        ("faults/hang", "timeout", "the cell took more than its 20 s; its worker was killed"),
        ("faults/memory-error", "out_of_memory", "MemoryError: no room"),
        ("faults/memory-limit", "out_of_memory", "Unable to allocate 4.00 GiB"),
        ("faults/raises", "error", "ValueError: the kernel does not like this shape (faults.py:"),
    ],
)
def test_a_fault_has_a_name_and_a_sentence(run: Any, name: str, status: str, words: str) -> None:
    for seqlen in (32, 48):  # the second time in a fresh worker
        (record,) = of(run, name, seqlen=seqlen)
        assert record["status"] == status
        assert words in record["reason"]
        assert record["stage"] == "call"
        assert record["time_median_ns"] is None
    (before,) = of(run, name, seqlen=16)
    assert before["status"] == "ok", "the worker was fine before the fault, and is again after it"


def test_an_error_that_breaks_a_process_for_good_costs_one_cell(run: Any) -> None:
    found = {record["seqlen_q"]: record for record in of(run, "faults/broken-context")}
    assert {seqlen: record["status"] for seqlen, record in found.items()} == {16: "ok", 32: "error", 48: "ok"}
    assert "CUDA error: an illegal memory access was encountered (faults.py:" in found[32]["reason"]


def test_the_place_of_a_crash_is_told(run: Any) -> None:
    (record,) = of(run, "faults/segfault", seqlen=32)
    assert "in string_at" in record["reason"]


def test_garbage_on_stdout_and_stderr_changes_nothing(run: Any) -> None:
    assert [r["status"] for r in of(run, "faults/garbage")] == ["ok"] * 3
    assert all(r["time_median_ns"] > 10 for r in of(run, "faults/garbage"))


def test_a_plugin_that_replaces_functions_of_numpy_and_the_clock_fools_nobody(run: Any) -> None:
    for record in of(run, "faults/patches-numpy"):
        assert record["status"] == "ok"
        assert record["time_median_ns"] > 100


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("faults/wrong-shape", "out has shape"),
        ("faults/mean-of-values", "times its budget"),
        ("faults/nan", "out is nan where"),
        ("faults/cached-output", "out of timed sample"),
    ],
)
def test_a_wrong_answer_is_wrong_and_has_no_speed(run: Any, name: str, words: str) -> None:
    for record in of(run, name):
        assert (record["status"], record["stage"]) == ("wrong", "agreement")
        assert words in record["reason"]
        assert record["time_median_ns"] is record["memory_peak_bytes"] is None


def test_where_the_worst_element_lies_is_told(run: Any) -> None:
    assert all("at batch 0, head 1, row 2, column 3" in r["reason"] for r in of(run, "faults/nan"))


def test_what_is_no_tensor_is_wrong(run: Any) -> None:
    assert {r["status"] for r in of(run, "faults/not-a-tensor")} == {"wrong"}
    assert all("returned str" in r["reason"] for r in of(run, "faults/not-a-tensor"))


def test_a_hook_that_returns_nonsense_makes_its_cell_an_error(run: Any) -> None:
    records = of(run, "faults/nonsense-of-itself")
    assert [(r["status"], r["stage"]) for r in records] == [("error", "backend")] * 3
    assert all(
        "its hook 'backend' returned ['not', 'a', 'name'], which is neither a string" in r["reason"] for r in records
    )


def test_a_plugin_that_raises_at_import_is_unavailable_with_its_words(run: Any) -> None:
    records = of(run, "unknown/raises-at-import")
    assert len(records) == 3
    assert all(
        r["status"] == "unavailable" and "No module named 'no_such_library_anywhere'" in r["reason"] for r in records
    )


def test_a_plugin_that_crashes_at_import_is_unavailable_with_the_signal(run: Any) -> None:
    assert all("crashed with SIGSEGV" in r["reason"] for r in of(run, "unknown/crashes-at-import"))


def test_the_others_are_not_touched(run: Any) -> None:
    finished, _ = run
    assert [r["status"] for r in of(run, "naive/numpy")] == ["ok"] * 3
    assert finished.code == 1, "disagreement goes before crashes"
    assert "Traceback" not in finished.err


def test_every_cell_has_its_record(run: Any) -> None:
    assert len(run[1]) == 3 * len({r["implementation"] for r in run[1]})
    assert len({r["record_id"] for r in run[1]}) == len(run[1])


def test_crashes_alone_are_exit_code_4(attnbench: Command) -> None:
    finished = attnbench(
        "check", "-p", PLUGINS / "faults.py", "-i", "faults/exit", "-a", "seqlen=32", "-a", "head_dim=8"
    )
    assert finished.code == 4


def test_nothing_measured_is_exit_code_5(attnbench: Command) -> None:
    finished = attnbench("run", "-i", "^naive/numpy$", "-a", "dtype=bfloat16", "--peaks", "none")
    assert finished.code == 5
    assert "1 unsupported" in finished.err


def test_nothing_is_left_running(run: Any) -> None:
    del run
    me = Path("/proc/self").resolve().name
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue  # it has ended
        assert process.name == me or "faults.toml" not in command
