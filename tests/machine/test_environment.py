"""The machine's description in a run's header."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.machine.environment import LIBRARY_FACTS, environment, libraries, machine_key
from attnbench.machine.software import extras, git_state, recorded_variables, software, version_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HERE: dict[str, Any] = {
    "cpu_model": "AMD Ryzen 9 7950X",
    "cpu_architecture": "x86_64",
    "cpu_family": "25",
    "cpu_model_number": "97",
    "cpu_stepping": "2",
    "cpu_instructions": ["avx2", "avx512f"],
    "cpu_physical": 16,
    "cpu_logical": 32,
    "cpu_hypervisor": False,
    "cpu_cache_bytes": {"L1d": 32768, "L3": 33554432},
    "memory_total_bytes": 64 * 2**30,
    "gpus": [{"name": "H100", "memory_total_bytes": 80 * 2**30, "driver": "580.65.06", "sm_clock_mhz": 1980}],
}
LEAVES = (str, int, float, bool, type(None))


@pytest.fixture(scope="module")
def here() -> Mapping[str, Any]:
    return environment()


def test_the_environment_survives_json_unchanged(here: dict[str, Any]) -> None:
    assert json.loads(json.dumps(here, allow_nan=False)) == here


def test_the_environment_has_two_levels_at_most(here: dict[str, Any]) -> None:
    for value in here.values():
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        for leaf in inner:
            leaves = leaf.values() if isinstance(leaf, dict) else [leaf]
            assert all(isinstance(one, LEAVES) for one in leaves)


def test_the_environment_names_no_host(here: dict[str, Any]) -> None:
    assert platform.node() not in json.dumps(here).split('"')
    assert len(here["host"]) == 12


def test_looking_at_the_machine_loads_no_heavy_library() -> None:
    code = """
import sys
import attnbench
before = set(sys.modules)
from attnbench.machine.hardware import devices
from attnbench.machine import interference
from attnbench.machine import doctor, environment
from attnbench.machine.pace import peaks
environment.environment()
devices.devices()
print(sorted({"torch", "numpy", "numba", "pandas", "scipy"} & set(sys.modules) - before), "torch" in before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


def test_versions_are_those_that_importing_would_show(here: dict[str, Any]) -> None:
    import numpy as np

    assert here["versions"]["numpy"] == np.__version__
    assert version_of("no-such-distribution") is None


def test_variables_that_change_a_measurement_are_recorded_and_secrets_are_not() -> None:
    asked = {"OMP_NUM_THREADS": "4", "MALLOC_ARENA_MAX": "2", "LD_PRELOAD": "libjemalloc.so", "CI": "true"}
    secret = {"GITHUB_TOKEN": "x", "HF_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "CI_JOB_TOKEN": "x", "HOME": "/h"}
    assert recorded_variables(asked | secret) == asked


def test_extras_say_what_they_bring_and_whether_it_is_here() -> None:
    found = extras()
    assert found["report"]["jinja2"] == version_of("jinja2")
    # Required packages are not part of an extra, with a condition (xformers, on Linux) or without (torch).
    assert not {"torch", "xformers"} & found["report"].keys()
    assert extras("no-such-distribution") == {}


def git(folder: Path, *arguments: str) -> str:
    names = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **names}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_checkout_is_dirty_when_a_tracked_file_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "kernel.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = {"revision": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    assert git_state(tmp_path) == clean
    (tmp_path / "run.jsonl").write_text("{}")
    assert git_state(tmp_path) == clean
    (tmp_path / "kernel.py").write_text("2")
    assert git_state(tmp_path) == {**clean, "dirty": True}


def test_outside_of_a_checkout_and_without_git_the_state_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    git(tmp_path, "init")
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) is None


def test_the_compiler_is_the_one_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert software()["cxx_compiler"] is None
    (tmp_path / "g++").touch(mode=0o755)
    assert software()["cxx_compiler"] == "g++"


def test_what_lasts_is_equal_a_minute_later() -> None:
    gpu = HERE["gpus"][0]
    now = {**HERE, "load_average": [0.1, 0.1, 0.1], "gpus": [{**gpu, "temperature_c": 31, "processes": 0}]}
    later = {**HERE, "load_average": [7.1, 2.0, 0.5], "gpus": [{**gpu, "temperature_c": 80, "processes": 2}]}
    assert machine_key(now) == machine_key(later)
    assert machine_key(now) != machine_key({**later, "cpu_physical": 8})
    assert machine_key(now) != machine_key({**later, "gpus": [{**gpu, "name": "another"}]})


def test_what_lasts_on_this_machine_is_equal_when_asked_twice(here: dict[str, Any]) -> None:
    assert environment().keys() == here.keys()
    assert machine_key(environment()) == machine_key(here)


def test_the_machine_key_of_version_1_never_changes() -> None:
    # Stored baselines are found by it: a change of what it hashes requires a new KEY_VERSION.
    assert machine_key(HERE) == "v1-156510e1db87"


@pytest.mark.parametrize(
    "changed",
    [
        {"cpu_mhz": 1200.0, "load_average": [9.0, 9.0, 9.0], "memory_available_bytes": 1, "kernel": "7.0", "host": "x"},
        {"memory_total_bytes": 64 * 2**30 - 5 * 2**20},
        {"gpus": [{**HERE["gpus"][0], "sm_clock_mhz": 345, "driver": "580.99.01"}]},
    ],
    ids=["what passes", "memory that the kernel reserves", "the GPU's clock and minor driver"],
)
def test_the_machine_key_ignores_what_changes_on_one_machine(changed: dict[str, Any]) -> None:
    assert machine_key({**HERE, **changed}) == machine_key(HERE)


@pytest.mark.parametrize(
    "changed",
    [
        {"cpu_model": "AMD EPYC 9654"},
        {"cpu_stepping": "1"},
        {"cpu_physical": 8},
        {"cpu_instructions": ["avx2"]},
        {"memory_total_bytes": 32 * 2**30},
        {"gpus": []},
        {"gpus": [{**HERE["gpus"][0], "driver": "590.1"}]},
        {"gpus": HERE["gpus"] * 2},
    ],
    ids=str,
)
def test_the_machine_key_knows_other_hardware(changed: dict[str, Any]) -> None:
    assert machine_key({**HERE, **changed}) != machine_key(HERE)


def test_a_machine_that_tells_nothing_has_a_key_too() -> None:
    assert machine_key({}).startswith("v1-")


def test_libraries_are_described_as_a_worker_with_those_threads_sees_them() -> None:
    found = libraries(1)
    assert found["failed"] is None
    assert found["torch_threads"] == 1
    if hasattr(os, "sched_setaffinity"):  # processes can be pinned on Linux only
        assert len(found["processors"]) == 1
    assert {pool["num_threads"] for pool in found["thread_pools"]} == {1}
    assert "blas" in {pool["user_api"] for pool in found["thread_pools"]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Replace the probe by one that answers at once, and return the list of its questions."""
    import attnbench.machine.environment as module

    questions: list[str] = []

    def probe(question: str, threads: int) -> dict[str, Any]:
        questions.append(f"{question} {threads}")
        return dict.fromkeys(LIBRARY_FACTS) | {"torch_threads": threads}

    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "ask_probe", probe)
    return questions


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux names its boots")
def test_libraries_are_asked_for_once_a_boot(asked: list[str]) -> None:
    assert libraries(2) == libraries(2)
    assert asked == ["libraries 2"]
    libraries(1)
    libraries(2, anew=True)
    assert asked == ["libraries 2", "libraries 1", "libraries 2"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux names its boots")
@pytest.mark.parametrize("name", ["OMP_PROC_BIND", "LD_LIBRARY_PATH", "MKL_CBWR"])
def test_libraries_are_asked_for_again_where_a_variable_changes_them(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    libraries(2)
    monkeypatch.setenv(name, "other")
    libraries(2)
    assert len(asked) == 2


def test_a_probe_of_libraries_that_fails_is_asked_again(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import attnbench.machine.environment as module

    def fails(question: str, threads: int) -> dict[str, Any]:
        asked.append(f"{question} {threads}")
        return {"failed": "no torch"}

    monkeypatch.setattr(module, "ask_probe", fails)
    assert [libraries(2)["failed"] for _ in range(2)] == ["no torch"] * 2
    assert len(asked) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux names its boots")
@pytest.mark.parametrize("text", ["", "[]", '{"failed": null}', "\x00"])
def test_libraries_are_not_taken_from_a_file_that_does_not_hold_them(
    asked: list[str], tmp_path: Path, text: str
) -> None:
    libraries(2)
    (path,) = (tmp_path / "libraries").iterdir()
    path.write_text(text)
    libraries(2)
    assert len(asked) == 2
