"""``doctor`` lists available and missing parts, each missing one with its remedy."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from attnbench.machine.doctor import Diagnosis, diagnose, remedy, render_doctor
from attnbench.machine.environment import environment
from attnbench.machine.hardware.devices import device_unavailable
from attnbench.registry.discover import unmet

EXTRAS: dict[str, dict[str, str | None]] = {
    "gpu": {"triton": None},
    "report": {"jinja2": "3.1.6"},
    "test": {"ruff": None},
}
NO_GPU = "no CUDA device: NVML, the library of NVIDIA's driver, was not found"
LINUX: dict[str, Any] = {"os": "Linux", "cxx_compiler": "g++", "cuda_unavailable": NO_GPU}
TORCH = {"torch_threads": 4, "torch_cpu_capability": "AVX2", "torch_blas": "mkl", "torch_cuda": None}


def report(implementations: list[tuple[str, str | None]] | None = None, **changed: Any) -> Diagnosis:
    arguments = {"environment": LINUX, "libraries": TORCH, "extras": EXTRAS, **changed}
    return diagnose(implementations=implementations or [], **arguments)


def test_implementations_are_available_or_missing_with_a_reason() -> None:
    found = report([("naive/numpy", None), ("jax/dot", "jax is not installed (it needs jax>=0.4)")])
    assert found.available == ("naive/numpy",)
    (one,) = [missing for missing in found.missing if "jax/dot" in missing.what]
    assert (one.reason, one.remedy) == ("jax is not installed (it needs jax>=0.4)", "pip install --upgrade 'jax>=0.4'")


def test_what_shares_a_reason_is_said_once() -> None:
    found = report([("triton/flash", NO_GPU), ("torch/sdpa-cudnn", NO_GPU)])
    (one,) = [missing for missing in found.missing if missing.reason == NO_GPU]
    assert one.what == ("device cuda", "triton/flash", "torch/sdpa-cudnn")


def test_a_distribution_that_an_extra_brings_is_installed_by_the_extra() -> None:
    reason = "triton is not installed (it needs triton>=3.6)"
    assert remedy(reason, EXTRAS, "Linux") == "pip install --upgrade 'attnbench[gpu]'"


def test_the_registrys_own_sentences_are_understood() -> None:
    for requirement, command in (
        ("no-such-thing>=2,<3", "pip install --upgrade 'no-such-thing>=2,<3'"),
        ("pytest>=999", "pip install --upgrade 'pytest>=999'"),
    ):
        reason = unmet([requirement])
        assert reason is not None
        assert remedy(reason, {}, "Linux") == command


@pytest.mark.parametrize(
    ("reason", "system", "said"),
    [
        (NO_GPU, "Linux", "install its driver"),
        ("no CUDA device: the distribution nvidia-ml-py is not installed", "Linux", "pip install nvidia-ml-py"),
        ("no CUDA device: CUDA_VISIBLE_DEVICES hides them all", "Linux", "unset CUDA_VISIBLE_DEVICES"),
        ("no CUDA device: torch 2.13.0+cpu is built without CUDA", "Linux", "a build of torch with CUDA"),
        ("there is no C++ compiler on the path", "Linux", "apt-get install g++"),
        ("there is no C++ compiler on the path", "Darwin", "xcode-select --install"),
    ],
)
def test_reasons_that_something_helps_against_name_it(reason: str, system: str, said: str) -> None:
    assert said in str(remedy(reason, {}, system))


def test_reasons_that_nothing_simple_helps_against_name_nothing() -> None:
    assert remedy("importing it raised RuntimeError: triton is not installed for this chip", EXTRAS, "Linux") is None


def test_a_missing_compiler_a_failed_probe_and_an_incomplete_extra_are_told() -> None:
    found = report(
        environment={"os": "Linux", "cxx_compiler": None},
        libraries={"failed": "the probe ended with 1: ImportError: libmkl.so"},
        peaks={"failed": "the probe took more than 90 s"},
        abilities=[("peak memory on the CPU", "the system cannot reset its high-water mark")],
    )
    reasons = {missing.reason: missing.remedy for missing in found.missing}
    assert reasons == {
        "there is no C++ compiler on the path": "apt-get install g++ (or your distribution's package)",
        "asking it failed: the probe ended with 1: ImportError: libmkl.so": None,
        "the probe took more than 90 s": None,
        "triton is not installed": "pip install --upgrade 'attnbench[gpu]'",
        "the system cannot reset its high-water mark": None,
    }


def test_the_text_has_a_line_for_every_fact_reason_remedy_and_warning() -> None:
    text = render_doctor(
        report(
            [("naive/numpy", None), ("mine/x", "importing it raised ImportError: no module")],
            environment={
                **LINUX,
                "cpu_model": "AMD Ryzen 9 7950X",
                "cpu_physical": 16,
                "cpu_logical": 32,
                "cpu_usable": [0, 1],
                "cpu_cache_bytes": {"L1d": 32768, "L3": 36 * 2**20},
                "memory_total_bytes": 64 * 2**30,
                "versions": {"torch": "2.13.0", "jax": None},
                "gpus": [{"index": 0, "name": "H100", "memory_total_bytes": 80 * 2**30}],
                "cpu_governor": "powersave",
            },
            peaks={"tflops": {"float32": 0.3456}, "gbytes_per_s": 26.47},
        )
    )
    for part in (
        "AMD Ryzen 9 7950X",
        "16 physical, 32 logical, 2 usable",
        "L1d 32 KiB, L3 36 MiB",
        "64 GiB in all",
        "H100 (80 GiB)",
        "4 threads, CPU kernels for AVX2, BLAS mkl, no CUDA",
        "float32 0.346 TFLOP/s, copy 26.5 GB/s",
        "Implementations: 1 available\n  naive/numpy\n",
        "  mine/x\n    importing it raised ImportError: no module\n",
        "    -> pip install --upgrade 'attnbench[gpu]'\n",
        "Warnings\n  - the frequency governor is 'powersave'",
        "v1-",
    ):
        assert part in text
    assert "jax" not in text
    assert "None" not in text


def test_what_one_command_brings_is_one_entry() -> None:
    lacks = "triton is not installed"
    text = render_doctor(report([("triton/flash", f"{lacks} (it needs triton>=3.7)"), ("other/kernel", lacks)]))
    assert (
        "\n  extra 'gpu', other/kernel, triton/flash\n    triton is not installed (it needs triton>=3.7)\n"
        "    -> pip install --upgrade 'attnbench[gpu]'\n"
    ) in text
    assert text.count("attnbench[gpu]") == 1


def test_what_is_unknown_has_no_line() -> None:
    found = diagnose({}, {"failed": "no torch"}, [], extras={})
    assert list(found.machine) == ["machine key"]
    text = render_doctor(found)
    assert "Implementations: none available" in text
    assert "None" not in text


def test_the_report_as_data_says_the_same() -> None:
    found = report([("naive/numpy", None), ("triton/flash", NO_GPU)])
    data = json.loads(json.dumps(dataclasses.asdict(found)))
    assert data["available"] == ["naive/numpy"]
    driver = remedy(NO_GPU, {}, "Linux")
    assert data["missing"][0] == {"what": ["device cuda", "triton/flash"], "reason": NO_GPU, "remedy": driver}
    assert data["warnings"] == []


def test_a_doctor_sees_this_very_machine() -> None:
    here = environment()
    found = diagnose(here, {}, [("torch/x", device_unavailable("cuda"))], extras={})
    assert here["cpu_model"] in render_doctor(found)
