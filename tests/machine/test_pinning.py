"""Threads and processors of a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from attnbench.machine.hardware.pinning import cores_first, default_threads, usable_processors, worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU = "sys/devices/system/cpu"


def topology(siblings: dict[int, str], packages: dict[int, int] | None = None) -> dict[str, str]:
    files = {f"{CPU}/cpu{n}/topology/thread_siblings_list": f"{text}\n" for n, text in siblings.items()}
    return files | {f"{CPU}/cpu{n}/topology/physical_package_id": str(p) for n, p in (packages or {}).items()}


def in_a_process(code: str, **variables: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, check=True
    )
    answer: list[int] = json.loads(done.stdout)
    return answer


def test_a_workers_environment_sets_the_threads_of_every_library_that_asks() -> None:
    variables = worker_environment(3)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    assert [variables[name] for name in names] == ["3"] * 4


def test_torch_and_numba_in_a_worker_have_the_threads_that_the_environment_says() -> None:
    code = "import json, torch, numba; print(json.dumps([torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS]))"
    assert in_a_process(code, **worker_environment(1)) == [1, 1]


def test_a_workers_environment_wins_over_what_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "PYTHONHASHSEED"):
        monkeypatch.setenv(name, "77")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    variables = worker_environment(2)
    assert "77" not in {variables[name] for name in ("OMP_NUM_THREADS", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")}
    assert (variables["PYTHONHASHSEED"], variables["OMP_WAIT_POLICY"]) == ("0", "passive")


def test_a_workers_environment_keeps_everything_else_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    variables = worker_environment(1)
    assert (variables["CUDA_DEVICE_ORDER"], variables["SOMETHING_ELSE"]) == ("FASTEST_FIRST", "kept")


def test_cuda_counts_devices_as_nvml_does_when_the_user_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert worker_environment(1)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets a process choose its processors")
def test_pin_leaves_a_process_as_many_processors_as_it_has_threads() -> None:
    code = "import json, os; from attnbench.machine.hardware.pinning import pin; pin(1)"
    code += "; print(json.dumps(list(os.sched_getaffinity(0))))"
    (processor,) = in_a_process(code)
    assert processor in usable_processors()


def test_threads_get_a_core_each_before_they_share_one(machine: Callable[..., Path]) -> None:
    neighbours = machine(topology({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}))
    assert cores_first([0, 1, 2, 3], neighbours) == [0, 2, 1, 3]


def test_threads_fill_one_package_before_the_next(machine: Callable[..., Path]) -> None:
    alternating = machine(topology({n: str(n) for n in range(4)}, {0: 0, 1: 1, 2: 0, 3: 1}))
    assert cores_first([0, 1, 2, 3], alternating) == [0, 2, 1, 3]


def test_processors_stay_in_order_where_the_system_tells_nothing(machine: Callable[..., Path]) -> None:
    assert cores_first([3, 5, 8], machine({})) == [3, 5, 8]


def test_there_is_a_thread_for_each_physical_core_that_may_be_used(
    machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnbench.machine.hardware.pinning.usable_processors", lambda: [0, 1, 2, 4])
    hyper_threaded = machine(topology({0: "0,4", 4: "0,4", 1: "1,5", 2: "2,6"}))
    assert default_threads(hyper_threaded) == 3


@pytest.mark.parametrize(("quota", "threads"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 4)])
def test_a_containers_quota_lowers_the_number_of_threads(
    machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, quota: str, threads: int
) -> None:
    monkeypatch.setattr("attnbench.machine.hardware.pinning.usable_processors", lambda: [0, 1, 2, 3])
    files = topology({n: str(n) for n in range(4)})
    contained = machine({**files, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota})
    assert default_threads(contained) == threads


def test_without_a_topology_cores_are_counted_by_the_share_of_hyper_threads(
    machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnbench.machine.hardware.pinning.usable_processors", lambda: [0, 1, 2, 3])
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 8 if logical else 4)
    assert default_threads(machine({})) == 2
