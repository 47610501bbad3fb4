"""Compiled code is cached somewhere, even for users without a home folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from attnbench.machine import caches
from attnbench.machine.hardware.pinning import worker_environment


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use a new temporary folder, no cache variables, and no earlier answers."""
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    caches._temporary.cache_clear()


def test_a_home_that_can_be_written_to_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "not" / "made" / "yet"))
    assert caches.cache_variables() == {}
    assert caches.warning() is None


def test_without_such_a_home_workers_compile_into_a_private_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    folder = Path(worker_environment(1)["NUMBA_CACHE_DIR"]).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    said = caches.warning()
    assert said is not None
    assert "/dev/null/.cache cannot be written to" in said
    assert str(folder) in said


def test_a_cache_that_the_user_named_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/mine")
    assert worker_environment(1)["NUMBA_CACHE_DIR"] == "/mine"


def test_a_folder_that_others_may_write_to_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    shared = caches._temporary()
    caches._temporary.cache_clear()
    shared.chmod(0o777)
    assert caches._temporary() != shared


def test_what_attnbench_keeps_itself_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "own"))
    assert caches.own_cache() == tmp_path / "own"
    monkeypatch.delenv("ATTNBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert caches.own_cache() == tmp_path / "xdg" / "attnbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caches.own_cache() == tmp_path / ".cache" / "attnbench"
