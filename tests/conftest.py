"""Fixtures for all tests: the command, and the records of its runs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from attnbench.cli.main import exit_code
from attnbench.machine import environment
from attnbench.machine.ask_probe import ask_probe
from attnbench.machine.pace import peaks
from attnbench.runner.oracle import Oracle
from attnbench.transport.child import Child

REPOSITORY = Path(__file__).parent.parent
PLUGINS = Path(__file__).parent / "plugins"
PLAIN = {"NO_COLOR": "1", "COLUMNS": "200"}
"""Environment variables that make a command's output independent of the terminal."""
FILES_THAT_TAKE_LONGEST = (
    "conformance/test_interpreted.py",
    "conformance/test_compiled.py",
    "conformance/test_conformance.py",
    "implementations/test_agreement.py",
    "commands/test_interruption.py",
    "mutants/test_sensitivity.py",
    "commands/test_profile.py",
    "commands/test_run.py",
    "profiling/test_planted.py",
    "predicting/test_predict.py",
    "fleet/test_ray.py",
    "ranks/test_ranks.py",
    "worker/test_timed_misconduct.py",
    "commands/test_check.py",
    "commands/test_faults.py",
    "commands/test_gate.py",
    "history/test_end_to_end.py",
    "implementations/test_triton_flash.py",
    "implementations/test_triton_compiles.py",
    "implementations/test_gluon_compiles.py",
    "gate/test_pair.py",
    "covering/test_array.py",
    "soak/test_processors.py",
    "runner/test_covering.py",
    "commands/test_memory_laws.py",
    "commands/test_gate_scaling.py",
    "packaging/test_wheel.py",
    "packaging/test_action.py",
    "commands/test_output.py",
    "capture/test_command.py",
    "api/test_session.py",
    "implementations/test_gluon_flash.py",
    "commands/test_pytest_plugin.py",
    "gpu/test_parts.py",
    "identities/test_identities.py",
    "registry/test_discover.py",
    "implementations/test_numba_flash.py",
    "implementations/test_numba_flash_threads.py",
    "scaling/test_fit.py",
    "put_back/test_verify.py",
    "soak/test_soak.py",
    "fuzz/test_fuzz.py",
    "sweep/test_files.py",
    "put_back/test_minilm.py",
    "registry/test_remembered_probe.py",
    "implementations/test_compiled.py",
    "implementations/test_gpu_back_ends.py",
    "capture/test_transformers.py",
    "machine/test_probe.py",
    "gate/test_calibration.py",
    "transport/test_socket.py",
    "capture/test_libraries.py",
)
"""The slowest files, slowest first. Two processes that share the files start with these, so that neither waits long for
the other at the end. ``make test-fast`` leaves them out."""
FIXTURES_THAT_TAKE_SECONDS = {"attnbench", "module_attnbench", "browser"}

# Examples have no deadline, as the machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished command."""

    code: int
    out: str
    err: str


class Command:
    """Runs ``attnbench`` as a user types it, in its own folder.

    The command line runs in this process, so that its imports are loaded only once; workers, oracle and probes are
    processes as usual. :meth:`process` runs the command line in a separate process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str | Path) -> Finished:
        """Run a command to its end."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["attnbench", *map(str, arguments)])
            for name, value in PLAIN.items():
                patch.setenv(name, value)
            warnings.resetwarnings()  # as in a separate process: pytest turns warnings into errors
            warnings.simplefilter("ignore")
            try:
                code = exit_code(sys.argv[1:])
            except SystemExit as end:
                code = int(end.code or 0)
        return Finished(code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str | Path, **variables: str) -> Finished:
        """Run a command to its end in a separate process with these environment variables."""
        done = subprocess.run(
            [sys.executable, "-m", "attnbench", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, **PLAIN, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


def records_of(path: Path) -> list[dict[str, Any]]:
    """Return the records of a run file as JSON, read without attnbench."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "record"]


@pytest.fixture
def attnbench(tmp_path: Path) -> Command:
    """The command, run in the test's own folder."""
    return Command(tmp_path)


@pytest.fixture(scope="module")
def module_attnbench(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command, run in a folder that the tests of a module share."""
    return Command(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session", autouse=True)
def _the_machine_is_described_once() -> Iterator[None]:
    """Describe libraries and peaks once: they do not change, and each query starts a process that imports torch."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (environment, peaks):
            patch.setattr(module, "ask_probe", functools.cache(ask_probe))
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_kept_in_the_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _oracles_are_kept() -> Iterator[None]:
    """Reuse oracle processes: the next run with the same environment takes over an idle one."""
    kept: dict[tuple[tuple[str, str], ...], list[Child]] = {}
    start, close = Oracle.start, Oracle.close

    def key(oracle: Oracle) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(pair for pair in oracle._environment.items() if pair[0] != "PYTEST_CURRENT_TEST"))

    def take(oracle: Oracle) -> Child:
        alive = [child for child in kept.pop(key(oracle), []) if child._process.poll() is None]
        if not alive:
            return start(oracle)
        oracle._child, oracle._is_ready = alive.pop(), True
        kept[key(oracle)] = alive
        return oracle._child

    def keep(oracle: Oracle) -> None:
        child = oracle._child
        if child is None or not oracle._is_ready or oracle._expecting or child._process.poll() is not None:
            return close(oracle)  # answers that were not read would reach the next run
        kept.setdefault(key(oracle), []).append(child)
        oracle._child = None
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Oracle, "start", take)
        patch.setattr(Oracle, "close", keep)
        yield
    for children in kept.values():
        for child in children:
            child.close()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip importing files that only have slow tests when slow tests are deselected."""
    is_slow = place_of(collection_path) < len(FILES_THAT_TAKE_LONGEST)
    return True if is_slow and config.getoption("markexpr") == "not slow" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as ``slow`` that take seconds or start a command or a browser, and run the slowest files first."""
    for item in items:
        takes_seconds = FIXTURES_THAT_TAKE_SECONDS & set(getattr(item, "fixturenames", ()))
        if takes_seconds or place_of(item.path) < len(FILES_THAT_TAKE_LONGEST):
            item.add_marker("slow")
    items.sort(key=lambda item: place_of(item.path))


def place_of(path: Path) -> int:
    """Return a file's position among the slowest files; all others come after them."""
    file = path.relative_to(Path(__file__).parent).as_posix()
    return FILES_THAT_TAKE_LONGEST.index(file) if file in FILES_THAT_TAKE_LONGEST else len(FILES_THAT_TAKE_LONGEST)


def pytest_collection_finish() -> None:
    """Use one thread in this process: with such small problems, threads only wait for each other."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


_frozen = 0


def pytest_runtest_teardown() -> None:
    """Exempt imported modules from garbage collection, which sessions run: it would take 0.2 s each time."""
    global _frozen  # noqa: PLW0603 - number of modules at the last call
    if len(sys.modules) != _frozen:
        _frozen = len(sys.modules)
        gc.collect()
        gc.freeze()
