"""The drift of a machine: assumed at first, then estimated from the heartbeats of its runs."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import pytest

from attnbench.machine.pace.heartbeat import PRIOR, Heartbeats, beat, heartbeats_of
from tests.odd_files import ODD, make_odd


def a_run(path: Path | None, *beats: float) -> Heartbeats:
    heartbeats = Heartbeats(path)
    for one in beats:
        heartbeats.add(one)
    heartbeats.keep()
    return heartbeats


def test_a_machine_of_which_nothing_is_known_has_the_presumed_drift(tmp_path: Path) -> None:
    assert Heartbeats(tmp_path / "none").drift == pytest.approx(PRIOR)
    assert a_run(None, 100).drift == pytest.approx(PRIOR)


def test_runs_that_differ_outweigh_what_was_presumed(tmp_path: Path) -> None:
    drawn = random.Random(0)
    for _ in range(200):
        a_run(tmp_path / "beats", math.exp(drawn.gauss(5, 0.07)))
    assert Heartbeats(tmp_path / "beats").drift == pytest.approx(0.07, rel=0.2)


def test_a_run_counts_by_its_median_however_many_beats_it_has(tmp_path: Path) -> None:
    for _ in range(60):
        a_run(tmp_path / "beats", 100, 100, 300)
    assert Heartbeats(tmp_path / "beats").drift < PRIOR / 3, "a machine that never changes ends below what was presumed"


def test_hours_beside_other_work_and_a_few_runs_far_off_do_not_count(tmp_path: Path) -> None:
    for number in range(60):
        a_run(tmp_path / "beats", (200 if number > 30 else 100) + number % 2 + (50 if number % 20 == 0 else 0))
    assert Heartbeats(tmp_path / "beats").drift < PRIOR


def test_heartbeats_of_last_week_and_what_is_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "beats"
    a_run(path, 100)
    before = Heartbeats(path).drift
    old = f"{time.time() - 8 * 24 * 3600:.0f} 900\n".encode()
    path.write_bytes(path.read_bytes() + old + b"\xff\xfe 12\nnan nan\n1e999 5\n\n" + f"{time.time()} -5".encode())
    assert Heartbeats(path).drift == before


def test_where_nothing_can_be_kept_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    a_run(tmp_path / "file" / "beats", 100)


def test_they_are_kept_by_machine_and_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path))
    assert heartbeats_of("v1-aa", 2) == tmp_path / "heartbeats" / "v1-aa-2.txt"


def test_a_heartbeat_is_a_time() -> None:
    assert 1_000 < beat() < 1e9


@pytest.mark.parametrize("made", ODD)
def test_what_is_no_regular_file_is_neither_read_nor_written(tmp_path: Path, made: str) -> None:
    path = tmp_path / "kept.txt"
    make_odd(made, path)
    heartbeats = Heartbeats(path)
    heartbeats.add(1000.0)
    heartbeats.keep()
    assert heartbeats.drift == pytest.approx(PRIOR)
