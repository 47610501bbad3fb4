"""Peaks are measured once a day, and never taken from a file that does not hold them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from attnbench.machine.pace.remembered_peaks import remember, remembered_peaks
from tests.odd_files import ODD, make_odd

PEAKS: dict[str, Any] = {
    "device": "cpu", "threads": 2, "failed": None, "tflops": {"float32": 1.5}, "not_measured": {}, "gbytes_per_s": 20.0,
    "read_gbytes_per_s": None, "method": "products", "disturbance": {},
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path))
    return tmp_path / "peaks"


def test_they_are_remembered_by_machine_device_and_threads(cache: Path) -> None:
    remember("v1-a", PEAKS, quick=True)
    assert remembered_peaks("v1-a", "cpu", 2, quick=True) == PEAKS
    for other in (("v1-b", "cpu", 2), ("v1-a", "cuda", 2), ("v1-a", "cpu", 1)):
        assert remembered_peaks(*other, quick=True) is None
    assert len(list(cache.iterdir())) == 1, "nothing half-written stays"


def test_thorough_ones_serve_for_quick_ones_and_not_the_other_way_round() -> None:
    remember("v1-a", PEAKS, quick=True)
    assert remembered_peaks("v1-a", "cpu", 2, quick=False) is None
    remember("v1-b", PEAKS, quick=False)
    assert remembered_peaks("v1-b", "cpu", 2, quick=True) == PEAKS


def test_after_a_day_they_are_forgotten(cache: Path) -> None:
    remember("v1-a", PEAKS, quick=True)
    (path,) = cache.iterdir()
    os.utime(path, (time.time(), time.time() - 25 * 3600))
    assert remembered_peaks("v1-a", "cpu", 2, quick=True) is None


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"tflops": 3}', "\x00", '{"device": "cpu"}'])
def test_what_is_no_peaks_is_not_taken(cache: Path, text: str) -> None:
    remember("v1-a", PEAKS, quick=True)
    (path,) = cache.iterdir()
    path.write_text(text)
    assert remembered_peaks("v1-a", "cpu", 2, quick=True) is None


@pytest.mark.parametrize(
    "strange", [{"gbytes_per_s": -1.0}, {"read_gbytes_per_s": 0.0}, {"tflops": {"float32": float("inf")}}]
)
def test_a_rate_that_is_none_is_not_taken(strange: dict[str, Any]) -> None:
    remember("v1-a", {**PEAKS, **strange}, quick=True)
    assert remembered_peaks("v1-a", "cpu", 2, quick=True) is None


@pytest.mark.parametrize("made", ODD)
def test_what_is_no_regular_file_is_not_read(cache: Path, made: str) -> None:
    """Reading a pipe would wait, and a device is endless."""
    cache.mkdir()
    path = cache / "v1-a-cpu-2-quick.json"
    make_odd(made, path)
    assert remembered_peaks("v1-a", "cpu", 2, quick=True) is None
    remember("v1-a", PEAKS, quick=True)
    assert not list(cache.glob("tmp*")), "nothing half-written stays"


def test_a_failure_is_not_remembered(cache: Path) -> None:
    remember("v1-a", {**PEAKS, "failed": "no torch"}, quick=True)
    assert not cache.exists()


def test_where_nothing_can_be_kept_they_are_measured_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "file"))
    remember("v1-a", PEAKS, quick=True)
    assert remembered_peaks("v1-a", "cpu", 2, quick=True) is None
