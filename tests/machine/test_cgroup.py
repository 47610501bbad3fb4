"""Limits of processors and memory in a container or a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.machine.hardware.cgroup import memory_limit_bytes, processor_limit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Machine = Callable[[dict[str, str]], Path]

TOP = "sys/fs/cgroup"


def test_without_control_groups_there_is_no_limit(machine: Machine) -> None:
    root = machine({})
    assert (processor_limit(root), memory_limit_bytes(root)) == (None, None)


def test_version_2_says_max_for_no_limit(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/\n", f"{TOP}/cpu.max": "max 100000\n", f"{TOP}/memory.max": "max\n"})
    assert (processor_limit(root), memory_limit_bytes(root)) == (None, None)


def test_the_smallest_limit_on_the_way_to_the_root_counts(machine: Machine) -> None:
    root = machine(
        {
            "proc/self/cgroup": "0::/service/job\n",
            f"{TOP}/service/job/cpu.max": "400000 100000\n",
            f"{TOP}/service/cpu.max": "150000 100000\n",
            f"{TOP}/service/job/memory.max": "1073741824\n",
            f"{TOP}/service/memory.max": "max\n",
        }
    )
    assert (processor_limit(root), memory_limit_bytes(root)) == (1.5, 2**30)


def test_groups_that_this_process_is_not_in_do_not_count(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/mine\n", f"{TOP}/others/memory.max": "4096\n"})
    assert memory_limit_bytes(root) is None


def test_version_1_has_a_folder_for_each_controller(machine: Machine) -> None:
    root = machine(
        {
            "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
            # The host's path does not exist in the container: the mounted top is the container's own group.
            f"{TOP}/memory/memory.limit_in_bytes": "2147483648\n",
            f"{TOP}/cpu/cpu.cfs_quota_us": "200000\n",
            f"{TOP}/cpu/cpu.cfs_period_us": "100000\n",
        }
    )
    assert (processor_limit(root), memory_limit_bytes(root)) == (2.0, 2**31)


def test_version_1_says_no_limit_with_minus_one_and_with_a_huge_number(machine: Machine) -> None:
    root = machine(
        {
            "proc/self/cgroup": "5:memory:/\n3:cpu:/\n",
            f"{TOP}/memory/memory.limit_in_bytes": "9223372036854771712\n",
            f"{TOP}/cpu/cpu.cfs_quota_us": "-1\n",
            f"{TOP}/cpu/cpu.cfs_period_us": "100000\n",
        }
    )
    assert (processor_limit(root), memory_limit_bytes(root)) == (None, None)
