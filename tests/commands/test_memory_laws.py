"""Measured peaks against counts by hand: checks the harness as well as the implementations."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Command, records_of

LENGTHS = (256, 512, 1024, 2048, 4096)
KIB = 2**10
SCENARIO = f"""
stages = ["agreement", "memory"]
[axes]
seqlen = {list(LENGTHS)}
[defaults]
heads = 2
"""


@pytest.fixture(scope="module")
def peaks(module_attnbench: Command) -> dict[tuple[str, int], dict[str, Any]]:
    (module_attnbench.folder / "lengths.toml").write_text(SCENARIO)
    finished = module_attnbench(
        "run", "lengths.toml", "-i", "^naive/numpy$", "-i", "^naive/torch$", "-i", "^chunked/torch$",
        "-i", "^numba/flash$", "--peaks", "none", "--out", "run.jsonl",
    )  # fmt: skip
    assert finished.code == 0, finished.err
    return {(r["implementation"], r["seqlen_q"]): r for r in records_of(module_attnbench.folder / "run.jsonl")}


@pytest.mark.parametrize("seqlen", LENGTHS)
@pytest.mark.parametrize(("name", "matrices"), [("naive/numpy", 1), ("naive/torch", 2)])
def test_unfused_attention_takes_its_score_matrices_and_its_output(
    peaks: dict[tuple[str, int], dict[str, Any]], name: str, matrices: int, seqlen: int
) -> None:
    expected = 4 * 2 * (matrices * seqlen**2 + seqlen * 64)  # float32, two heads
    measured = peaks[name, seqlen]["memory_peak_bytes"]
    assert measured == pytest.approx(expected, abs=max(0.05 * expected, 256 * KIB))


@pytest.mark.parametrize("name", ["chunked/torch", "numba/flash"])
def test_memory_efficient_attention_grows_no_faster_than_its_length(
    peaks: dict[tuple[str, int], dict[str, Any]], name: str
) -> None:
    short, long = (peaks[name, seqlen]["memory_peak_bytes"] for seqlen in (1024, 4096))
    assert long <= 4 * short + 256 * KIB
    assert long < 0.1 * peaks["naive/numpy", 4096]["memory_peak_bytes"]


def test_workspace_is_what_the_output_is_not(peaks: dict[tuple[str, int], dict[str, Any]]) -> None:
    for record in peaks.values():
        assert record["memory_workspace_bytes"] == record["memory_peak_bytes"] - record["memory_output_bytes"]
        assert record["memory_resolution_bytes"] < 1024 * KIB, "a fraction of a MiB; what an empty call reads is noise"
