"""Profiles of planted kernels, each taken in its own worker."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from attnbench import make_case
from attnbench.machine.hardware.pinning import usable_processors, worker_environment
from attnbench.stages.prepare import Load, Prepare
from attnbench.stages.profile import NAMING_VARIABLES, Profiled, TakeProfile
from attnbench.transport.host import LOCAL_HOST
from tests.conftest import PLUGINS

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = PLUGINS / "planted_profile.py"
Take = Callable[[str, int], Profiled]


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    """Return a function that profiles an implementation in ``planted_profile.py`` with a number of threads."""
    folder: Path = tmp_path_factory.mktemp("numba")

    @functools.cache
    def profile(name: str, threads: int) -> Profiled:
        if threads > len(usable_processors()):
            pytest.skip(f"there are no {threads} processors")
        environment = {**worker_environment(threads), **NAMING_VARIABLES, "NUMBA_CACHE_DIR": str(folder)}
        worker = LOCAL_HOST.start_worker(threads, environment)
        try:
            load = Load(kind="file", target=str(PLANTED), implementation=name, threads=threads)
            worker.ask(load, 300.0, None)
            worker.ask(Prepare(case=make_case(seqlen_q=4, heads_q=1, head_dim=4), device="cpu"), 300.0, None)
            found = worker.ask(TakeProfile(threads=threads, wall_ns=2_000_000_000, assembly=True), 300.0, None)
        finally:
            worker.close()
        if found.refused:
            pytest.skip(found.refused)
        return found

    return profile
