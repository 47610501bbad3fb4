"""One measuring run at a time on a GPU."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from attnbench.machine.device_lock import devices_to_ourselves

NVML = Callable[..., Any]


def test_a_run_on_the_cpu_locks_nothing(tmp_path: Path) -> None:
    with devices_to_ourselves(["cpu"], pytest.fail, tmp_path):
        assert not list(tmp_path.iterdir())


def test_the_gpu_is_held_until_the_run_is_over(nvml: NVML, tmp_path: Path) -> None:
    nvml("H100").nvmlDeviceGetComputeRunningProcesses = lambda handle: []
    with devices_to_ourselves(["cuda"], pytest.fail, tmp_path):
        (path,) = tmp_path.iterdir()
        assert path.name == "attnbench-GPU-000-abc.lock"
        assert not can_lock(path)
    assert can_lock(path)


def test_it_is_let_go_when_the_run_fails(nvml: NVML, tmp_path: Path) -> None:
    nvml("H100").nvmlDeviceGetComputeRunningProcesses = lambda handle: []
    with pytest.raises(ZeroDivisionError), devices_to_ourselves(["cuda"], pytest.fail, tmp_path):
        raise ZeroDivisionError
    assert can_lock(tmp_path / "attnbench-GPU-000-abc.lock")


def test_another_attnbench_is_waited_for_and_the_user_told(nvml: NVML, tmp_path: Path) -> None:
    nvml("H100").nvmlDeviceGetComputeRunningProcesses = lambda handle: []
    path = tmp_path / "attnbench-GPU-000-abc.lock"
    held, may_end = threading.Event(), threading.Event()

    def measure() -> None:
        with FileLock(path):
            held.set()
            may_end.wait(600)

    other = threading.Thread(target=measure)
    other.start()
    held.wait(600)
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        may_end.set()  # only now does the other one end

    with devices_to_ourselves(["cuda"], say, tmp_path):
        other.join(600)
        assert not other.is_alive()
    assert said == [f"another attnbench measures on this GPU: waiting for it ({path})"]


def test_a_check_waits_for_a_run_and_then_holds_nothing(nvml: NVML, tmp_path: Path) -> None:
    nvml("H100").nvmlDeviceGetComputeRunningProcesses = lambda handle: [types.SimpleNamespace(pid=4711)]
    path = tmp_path / "attnbench-GPU-000-abc.lock"
    held = FileLock(path)
    held.acquire()
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        held.release()

    with devices_to_ourselves(["cuda"], say, tmp_path, alone=False):
        assert can_lock(path)  # another check, or a run that warns of this one
    assert said == [f"another attnbench measures on this GPU: waiting for it ({path})"]


def test_other_programs_on_the_gpu_are_told_of(nvml: NVML, tmp_path: Path) -> None:
    others = [types.SimpleNamespace(pid=4711), types.SimpleNamespace(pid=4712)]
    nvml("H100").nvmlDeviceGetComputeRunningProcesses = lambda handle: others
    said: list[str] = []
    with devices_to_ourselves(["cuda"], said.append, tmp_path):
        pass
    (sentence,) = said
    assert sentence.startswith("2 other processes compute on this GPU (process 4711, 4712): times")


def test_two_gpus_have_two_locks(nvml: NVML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml("H100", "H200").nvmlDeviceGetComputeRunningProcesses = lambda handle: []
    with devices_to_ourselves(["cuda"], pytest.fail, tmp_path):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        with devices_to_ourselves(["cuda"], pytest.fail, tmp_path):
            assert len(list(tmp_path.iterdir())) == 2


def can_lock(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return False
    lock.release()
    return True
