"""Interference with a measurement, read from the system's counters."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.machine.interference import Counters, interference, read_counters, warnings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUIET: dict[str, Any] = {
    "load_average": [0.3, 0.2, 0.1],
    "cpu_usable": [0, 1, 2, 3],
    "cpu_limit": None,
    "cpu_governor": "performance",
    "cpu_hypervisor": False,
    "cpu_steal_share": 0.0,
    "swap_used_bytes": 0,
    "memory_total_bytes": 64 * 2**30,
    "memory_available_bytes": 60 * 2**30,
    "huge_pages": "madvise",
    "gpus": [{"index": 0, "name": "H100", "processes": 0}],
}


def test_a_window_counts_only_what_happened_within_it() -> None:
    before = Counters(involuntary_switches=10, major_faults=4, ticks=(100, 10_000), load=0.5)
    after = Counters(involuntary_switches=13, major_faults=4, ticks=(120, 10_200), load=0.7)
    found = interference(before, after)
    assert (found.involuntary_switches, found.major_faults, found.steal_share) == (3, 0, 0.1)
    assert (found.load_before, found.load_after) == (0.5, 0.7)


def test_a_window_shorter_than_a_tick_has_no_share_of_stolen_time() -> None:
    counters = Counters(0, 0, (100, 10_000), 0.0)
    assert interference(counters, counters).steal_share is None


def test_where_the_system_counts_nothing_nothing_is_said() -> None:
    nothing = Counters(None, None, None, None)
    assert set(vars(interference(nothing, nothing)).values()) == {None}


def test_stolen_time_is_read_from_the_kernels_statistics(machine: Callable[..., Path]) -> None:
    assert read_counters(machine({"proc/stat": "cpu 1 2 3 4 5 6 7 8 0 0\n"})).ticks == (8, 36)
    assert read_counters(machine({"proc/stat": "cpu 1 2 3\n"})).ticks is None


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="only Linux lets processes share one processor by force"
)
def test_being_put_aside_for_another_process_is_counted() -> None:
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # inherits the one processor
    try:
        before, enough = read_counters(), time.process_time() + 20  # processor time, however long that takes
        while interference(before, read_counters()).involuntary_switches == 0 and time.process_time() < enough:
            pass
        assert interference(before, read_counters()).involuntary_switches
    finally:
        rival.kill()
        rival.wait()
        os.sched_setaffinity(0, mine)


def test_a_quiet_machine_gets_no_warning() -> None:
    assert warnings(QUIET) == []


def test_a_machine_that_tells_nothing_gets_no_warning() -> None:
    assert warnings({}) == []
    assert warnings(dict.fromkeys(QUIET)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"load_average": [3.5, 0, 0]}, "the load was 3.5 over the last minute, on 4 usable processors"),
        ({"cpu_governor": "powersave"}, "the frequency governor is 'powersave'"),
        ({"cpu_hypervisor": True}, "this is a virtual machine"),
        ({"cpu_steal_share": 0.042}, "the hypervisor gave 4.2 %"),
        (
            {"cpu_limit": 1.5},
            "the container may use 1.5 processors' worth of time on 4 processors: more than 1 threads",
        ),
        ({"swap_used_bytes": 300 * 2**20}, "300 MiB are swapped out"),
        ({"memory_available_bytes": 2 * 2**30}, "only 2.0 of 64.0 GiB of memory are free"),
        ({"huge_pages": "always"}, "transparent huge pages are set to 'always'"),
        ({"gpus": [{"index": 0, "name": "H100", "processes": 2}]}, "2 other processes compute on GPU 0 (H100)"),
        ({"gpus": [{"index": 0, "name": "H100", "processes": 1}]}, "1 other process computes on GPU 0 (H100)"),
        (
            {"gpus": [{"index": 0, "memory_total_bytes": 80 * 2**30, "memory_used_bytes": 50 * 2**30}]},
            "only 30.0 GiB of GPU 0 are free: large cases will not fit",
        ),
        ({"gpus": [{"index": 0, "temperature_c": 81}]}, "GPU 0 is at 81 °C before anything runs: it may throttle"),
    ],
)
def test_each_disturbance_is_one_sentence(changed: dict[str, Any], said: str) -> None:
    (sentence,) = warnings({**QUIET, **changed})
    assert said in sentence


@pytest.mark.parametrize("harmless", [{"load_average": [2.0, 0, 0]}, {"cpu_limit": 4.0}, {"cpu_steal_share": 0.01}])
def test_what_is_within_bounds_is_not_mentioned(harmless: dict[str, Any]) -> None:
    assert warnings({**QUIET, **harmless}) == []
