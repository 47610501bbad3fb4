"""The workers of a run: one for each implementation and device, kept from cell to cell, replaced after a bad one."""

from __future__ import annotations

import collections
import time
from typing import TYPE_CHECKING

from attnbench.machine.hardware.pinning import thread_variables, threads_of_rank
from attnbench.stages.prepare import Load
from attnbench.transport.executor import Executor, ExecutorError
from attnbench.transport.host import LOCAL_HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.registry.found import Found
    from attnbench.runner.planning.plan import Cell
    from attnbench.transport.host import Host

_LOAD_DEADLINE_S = 300.0


class Workers:
    """Live workers by (implementation, device)."""

    def __init__(self, threads: int, environment: Mapping[str, str], host: Host = LOCAL_HOST) -> None:
        self._threads, self._environment, self._host = threads, environment, host
        self._live: dict[tuple[str, str], Executor] = {}
        self._failed: dict[tuple[str, str], ExecutorError] = {}
        self._cells_left: collections.Counter[tuple[str, str]] = collections.Counter()
        self.imports_s = 0.0

    def begin(self, cells: Sequence[Cell]) -> None:
        """Start a replicate's workers, as many at once as there are processors, since nothing is timed yet."""
        self.close()
        self._failed.clear()
        running = [cell for cell in cells if cell.preset_outcome is None]
        self._cells_left = collections.Counter((cell.found.name, cell.device) for cell in running)
        needed = {(cell.found.name, cell.device): cell.found for cell in running}
        started_at = time.monotonic()
        starting: collections.deque[tuple[tuple[str, str], Load, Executor]] = collections.deque()
        for key, found in needed.items():
            if len(starting) >= self._host.processors():
                self._finish(*starting.popleft())
            started = self._start(key, found)
            if started is not None:
                starting.append((key, *started))
        while starting:
            self._finish(*starting.popleft())
        self.imports_s += time.monotonic() - started_at

    def get(self, found: Found, device: str) -> Executor:
        """Return the worker of an implementation on a device; start it if necessary.

        Raises:
            ExecutorError: it cannot be loaded; it is not tried again in this replicate.
        """
        key = (found.name, device)
        if key not in self._live and key not in self._failed:
            started_at = time.monotonic()
            started = self._start(key, found)
            if started is not None:
                self._finish(key, *started)
            self.imports_s += time.monotonic() - started_at
        if key in self._failed:
            raise self._failed[key]
        return self._live[key]

    def done(self, found: Found, device: str, *, keep: bool) -> None:
        """Finish a cell; end its worker unless it is to be kept and has cells left."""
        key = (found.name, device)
        self._cells_left[key] -= 1
        if key in self._live and (not keep or self._cells_left[key] <= 0):
            self._live.pop(key).close()

    def close(self) -> None:
        """End all workers."""
        while self._live:
            self._live.popitem()[1].close()

    def _start(self, key: tuple[str, str], found: Found) -> tuple[Load, Executor] | None:
        """Start a worker and send it a request to load, without waiting."""
        said = found.declaration
        interpreter = said.interpreter if said else None
        threads = threads_of_rank(found.ranks or 1, self._threads)
        load = Load(
            kind=found.origin.kind,
            target=found.origin.target,
            implementation=said.name if said else found.name,
            threads=threads,
        )
        try:
            if found.ranks is None:
                worker = self._host.start_worker(self._threads, self._environment, interpreter)
            else:
                environment = {**self._environment, **thread_variables(threads)}
                worker = self._host.start_ranks(found.ranks, self._threads, environment, interpreter)
        except OSError as error:
            name = interpreter or "a worker"
            self._failed[key] = ExecutorError("unavailable", f"{name} cannot be started: {error.strerror}")
            return None
        try:
            worker.send(load)
        except ExecutorError as error:
            self._failed[key] = error
            worker.close()
            return None
        return load, worker

    def _finish(self, key: tuple[str, str], load: Load, worker: Executor) -> None:
        """Wait until a worker has loaded."""
        try:
            worker.receive(load, _LOAD_DEADLINE_S)
        except ExecutorError as error:
            self._failed[key] = error
            worker.close()
        else:
            self._live[key] = worker
