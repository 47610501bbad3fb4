"""Processor and memory are read correctly from the files of other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.machine.hardware import cpu as cpu_module
from attnbench.machine.hardware.cpu import cpu, cpu_model, last_level_cache_bytes, processor_ticks
from attnbench.machine.hardware.memory import available_bytes, memory
from attnbench.machine.hardware.pinning import usable_processors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Machine = Callable[[dict[str, str]], Path]

CPUINFO = """processor\t: 0
cpu family\t: 25
model\t\t: 97
model name\t: AMD Ryzen 9 7950X
stepping\t: 2
cpu MHz\t\t: 4491.500
flags\t\t: fpu sse2 avx2 fma avx512f avx512_bf16{more}

processor\t: 1
model name\t: another one
"""
FIRST = f"sys/devices/system/cpu/cpu{usable_processors()[0]}/cpufreq"
CACHE = "sys/devices/system/cpu/cpu0/cache"


def test_the_first_block_of_cpuinfo_names_the_processor(machine: Machine) -> None:
    found = cpu(machine({"proc/cpuinfo": CPUINFO.format(more="")}))
    assert found["cpu_model"] == "AMD Ryzen 9 7950X"
    assert (found["cpu_family"], found["cpu_model_number"], found["cpu_stepping"]) == ("25", "97", "2")
    assert found["cpu_instructions"] == ["avx2", "fma", "avx512f", "avx512_bf16"]


@pytest.mark.parametrize(("more", "virtual"), [("", False), (" hypervisor", True)])
def test_a_virtual_machine_is_known_by_its_flag(machine: Machine, more: str, virtual: bool) -> None:
    assert cpu(machine({"proc/cpuinfo": CPUINFO.format(more=more)}))["cpu_hypervisor"] is virtual


def test_a_processor_without_that_flag_register_is_not_called_real_or_virtual(machine: Machine) -> None:
    arm = "processor\t: 0\nFeatures\t: fp asimd asimdhp sve bf16\nCPU part\t: 0xd4f\nCPU revision\t: 1\n"
    found = cpu(machine({"proc/cpuinfo": arm}))
    assert found["cpu_hypervisor"] is None
    assert found["cpu_instructions"] == ["asimd", "asimdhp", "bf16", "sve"]
    assert (found["cpu_model_number"], found["cpu_stepping"]) == ("0xd4f", "1")


def test_caches_are_in_bytes_and_the_largest_is_the_last_level(machine: Machine) -> None:
    sizes = {"index0": ("1", "Data", "48K"), "index1": ("1", "Instruction", "32K"), "index3": ("3", "Unified", "36M")}
    names = ("level", "type", "size")
    root = machine(
        {f"{CACHE}/{i}/{n}": text for i, texts in sizes.items() for n, text in zip(names, texts, strict=True)}
    )
    assert cpu(root)["cpu_cache_bytes"] == {"L1d": 48 * 2**10, "L1i": 32 * 2**10, "L3": 36 * 2**20}
    assert last_level_cache_bytes(root) == 36 * 2**20


def test_frequencies_are_in_mhz_and_the_scaling_driver_goes_before_cpuinfo(machine: Machine) -> None:
    told = {
        f"{FIRST}/scaling_cur_freq": "3500000\n",
        f"{FIRST}/cpuinfo_max_freq": "5700000\n",
        f"{FIRST}/scaling_governor": "powersave\n",
    }
    found = cpu(machine({"proc/cpuinfo": CPUINFO.format(more=""), **told}))
    assert (found["cpu_mhz"], found["cpu_max_mhz"], found["cpu_governor"]) == (3500.0, 5700.0, "powersave")


def test_what_a_container_hides_is_none(machine: Machine) -> None:
    found = cpu(machine({"proc/cpuinfo": CPUINFO.format(more="")}))
    hidden = (
        "cpu_governor",
        "cpu_max_mhz",
        "cpu_cache_bytes",
        "cpu_limit",
        "numa_nodes",
        "runnable",
        "cpu_steal_share",
    )
    assert {name: found[name] for name in hidden} == dict.fromkeys(hidden)
    assert found["cpu_mhz"] == 4491.5


def test_stolen_time_is_a_share_of_all_time_and_guest_time_is_not_counted_twice(machine: Machine) -> None:
    ticks = "cpu  100 0 50 800 20 0 10 20 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    root = machine({"proc/stat": ticks, "proc/loadavg": "0.5 0.4 0.3 3/120 999\n"})
    assert processor_ticks(root) == (20, 1000)
    assert (cpu(root)["cpu_steal_share"], cpu(root)["runnable"]) == (0.02, 3)


def test_a_system_without_proc_is_asked_in_its_own_way(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_module, "_asked_elsewhere", lambda: {"brand_raw": "Apple M4", "flags": ["neon", "bf16"]})
    root = machine({})
    found = cpu(root)
    assert (cpu_model(root), found["cpu_instructions"], found["cpu_mhz"]) == ("Apple M4", ["neon", "bf16"], None)


def test_a_system_that_tells_nothing_at_all_still_has_a_model(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpuinfo.get_cpu_info", _raise)
    cpu_module._asked_elsewhere.cache_clear()
    root = machine({})
    try:
        assert cpu_model(root)
        assert cpu(root)["cpu_instructions"] is None
    finally:
        cpu_module._asked_elsewhere.cache_clear()


def _raise() -> None:
    raise Exception("py-cpuinfo currently only works on X86 and some ARM/PPC CPUs")  # noqa: TRY002 - what it raises


def test_the_setting_of_huge_pages_is_the_one_in_brackets(machine: Machine) -> None:
    root = machine({"sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n"})
    assert memory(root)["huge_pages"] == "madvise"


def test_no_more_memory_is_available_than_the_container_allows(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"})
    assert memory(root)["memory_limit_bytes"] == 2**20
    assert available_bytes(root) == 2**20
    assert available_bytes(machine({"sys/fs/cgroup/memory.max": "max\n"})) > 2**20
