"""A pytest plug-in: cells as benchmarks (``pytest --attnbench quick``), and the fixture ``attnbench_check``.

Cells are timed by pytest-benchmark's fixture, so its comparisons, storage and histograms work as usual; agreement and
memory are in ``extra_info``. Everything runs inside pytest's process; for isolation, repetition and judgement use
``attnbench run`` and ``attnbench gate``. Every pytest run loads this module, so it imports nothing heavy at the top.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnbench.runner.oracle import Oracle

_CELLS = Path(__file__).parent / "cells.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``pytest --attnbench``."""
    group = parser.getgroup("attnbench", "benchmarks of attention")
    group.addoption(
        "--attnbench", metavar="SCENARIO", help="time the cells of a scenario (a name, or a .toml file) as benchmarks"
    )
    group.addoption(
        "--attnbench-implementation", metavar="REGEX", action="append", default=[],
        help="only implementations that match; repeatable",
    )  # fmt: skip
    group.addoption(
        "--attnbench-axis", metavar="NAME=VALUE[,VALUE...]", action="append", default=[],
        help="in place of the scenario's values; repeatable",
    )  # fmt: skip
    group.addoption(
        "--attnbench-plugin", metavar="FILE.py", action="append", default=[],
        help="a file with implementations of your own; repeatable",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Collect the cells, and only those other tests that were named on the command line."""
    if not config.getoption("attnbench"):
        return
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("--attnbench needs pytest-benchmark: pip install 'attnbench[pytest]'")
    from attnbench.sweep.load import load_scenario
    from attnbench.sweep.mistakes import ScenarioError

    try:
        load_scenario(config.getoption("attnbench"))
    except ScenarioError as error:
        raise pytest.UsageError(f"--attnbench: {error}") from error
    named = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    config.args = [str(_CELLS), *named]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate one test per cell, named by case and implementation."""
    if "attnbench_cell" not in metafunc.fixturenames:
        return
    from attnbench.pytest_plugin.in_process import cells_of
    from attnbench.runner.planning.plan import PlanError
    from attnbench.sweep.mistakes import ScenarioError

    config = metafunc.config
    try:
        cells = cells_of(
            config.getoption("attnbench"),
            include=config.getoption("attnbench_implementation"),
            axes=config.getoption("attnbench_axis"),
            plugins=config.getoption("attnbench_plugin"),
        )
    except (PlanError, ScenarioError, ValueError) as error:
        raise pytest.UsageError(f"--attnbench: {error}") from error
    names = [f"{cell.case.label().replace(' ', '_')}-{cell.found.name}" for cell in cells]
    metafunc.parametrize("attnbench_cell", cells, ids=names)


@pytest.fixture(scope="session")
def attnbench_oracle() -> Iterator[Oracle]:
    """The oracle: a process that computes the float64 answers, shared by all tests of a session."""
    from attnbench.pytest_plugin.in_process import new_oracle

    oracle = new_oracle()
    yield oracle
    oracle.close()


@pytest.fixture
def attnbench_check(attnbench_oracle: Oracle) -> Callable[..., None]:
    """``attnbench_check(my_kernel)``: fails unless the kernel agrees with the oracle in every case that it claims.

    ``my_kernel`` is a function with attnbench's decorator ``@attention``, or a plain ``f(q, k, v, case)`` with the
    decorator's arguments: ``attnbench_check(f, dtypes=["float32"], masks=["none", "causal"])``. The cases are those of
    the scenario ``edge-shapes``; ``scenario="quick"`` selects another one, ``axes=["seqlen=64"]`` changes it, and
    ``device="cuda"`` runs it on that device.
    """
    from attnbench.pytest_plugin.in_process import check

    def checked(kernel: object, **given: object) -> None:
        __tracebackhide__ = True
        problems = check(attnbench_oracle, kernel, **given)  # type: ignore[arg-type]  # check says what it takes
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)

    return checked
