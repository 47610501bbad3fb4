"""Finding devices, with a stand-in for NVIDIA's library."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.machine.hardware.devices import NoGPUError, device_unavailable, devices
from attnbench.machine.hardware.devices import nvml as opened
from attnbench.machine.hardware.gpu import gpus

if TYPE_CHECKING:
    from collections.abc import Callable

    NVML = Callable[..., Any]


def names() -> list[str]:
    return [f"{one.name} {one.description}" for one in devices()[1:]]


def test_the_cpu_is_always_there_and_first(nvml: NVML) -> None:
    nvml("H100")
    assert devices()[0].name == "cpu"
    assert devices()[0].description
    assert device_unavailable("cpu") is None


def test_gpus_are_counted_and_named(nvml: NVML) -> None:
    nvml("H100", "L4")
    assert names() == ["cuda:0 H100", "cuda:1 L4"]
    assert device_unavailable("cuda") is None


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", ["cuda:0 L4"]),
        ("2,0", ["cuda:0 T4", "cuda:1 H100"]),
        ("GPU-111", ["cuda:0 L4"]),
        ("0,9,1", ["cuda:0 H100"]),
        ("0,GPU-,1", ["cuda:0 H100"]),
        ("-1", []),
        ("", []),
    ],
)
def test_cuda_visible_devices_chooses_and_orders_as_cuda_does(
    nvml: NVML, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
) -> None:
    nvml("H100", "L4", "T4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert names() == expected
    assert [gpu["name"] for gpu in gpus()] == [name.split()[1] for name in expected]


def test_each_lack_of_a_cuda_device_has_a_reason_of_its_own(nvml: NVML, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(library=False)
    assert device_unavailable("cuda") == "no CUDA device: NVML, the library of NVIDIA's driver, was not found"
    nvml()
    assert device_unavailable("cuda") == "no CUDA device: NVML knows none"
    nvml("H100", torch="2.13.0+cpu")
    assert device_unavailable("cuda") == "no CUDA device: torch 2.13.0+cpu is built without CUDA"
    nvml("H100", torch="2.13.0+cu130")
    assert device_unavailable("cuda") is None
    nvml("H100")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device_unavailable("cuda") == "no CUDA device: CUDA_VISIBLE_DEVICES hides them all"
    nvml("H100")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert device_unavailable("cuda") == "no CUDA device: the distribution nvidia-ml-py is not installed"


def test_a_kind_of_device_that_nobody_knows_is_a_sentence(nvml: NVML) -> None:
    assert device_unavailable("tpu") == "there is no kind of device 'tpu': attnbench knows cpu and cuda"


def test_nvml_is_asked_once_however_many_implementations_need_cuda(nvml: NVML, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = nvml("H100")
    asked: list[int] = []
    monkeypatch.setattr(fake, "nvmlInit", lambda: asked.append(1))
    assert [device_unavailable("cuda") for _ in range(20)] == [None] * 20
    assert len(asked) == 1


def test_the_library_is_shut_down_also_when_it_fails_half_way(nvml: NVML) -> None:
    fake = nvml("H100")
    with pytest.raises(NoGPUError, match="NVML says GPU is lost"), opened():
        raise fake.NVMLError("GPU is lost")
    assert fake.open == 0


def test_a_gpu_is_described_in_the_units_that_the_names_say(nvml: NVML) -> None:
    nvml("H100")
    (gpu,) = gpus()
    assert gpu == {
        "index": 0,
        "name": "H100",
        "driver": "580.65.06",
        "compute_capability": "9.0",
        "memory_total_bytes": 80 * 2**30,
        "memory_used_bytes": 3 * 2**30,
        "sm_clock_mhz": 345,
        "sm_clock_max_mhz": 1980,
        "memory_clock_mhz": 2619,
        "power_limit_w": 700.0,
        "temperature_c": 31,
        "processes": 1,
    }


def test_what_a_card_does_not_tell_is_none_and_the_rest_is_kept(nvml: NVML) -> None:
    nvml("GTX", refused=("power",))
    (gpu,) = gpus()
    assert (gpu["power_limit_w"], gpu["sm_clock_mhz"]) == (None, 345)


def test_a_machine_without_nvml_has_an_empty_list_of_gpus(nvml: NVML) -> None:
    nvml(library=False)
    assert gpus() == []
    assert names() == []
