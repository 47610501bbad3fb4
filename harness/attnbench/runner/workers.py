"""The workers of a run: one for each implementation and device, kept from cell to cell, fresh after a bad one."""

from __future__ import annotations

import collections
import os
import time
from typing import TYPE_CHECKING

from attnbench.transport.child import Child, ChildGoneError, start_worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.registry.discover import Found
    from attnbench.runner.plan import Cell

LOAD_TIMEOUT_S = 300.0


class LoadFailedError(Exception):
    """An implementation could not be loaded into a worker; it is not tried again in this replicate."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Workers:
    """Live workers by (implementation, device)."""

    def __init__(
        self, threads: int, environment: Mapping[str, str], python: str | None = None, folder: str | None = None
    ) -> None:
        """``python`` and ``folder``: the interpreter, and where it is started; default those of this process."""
        self._threads = threads
        self._environment = environment
        self._python, self._folder = python, folder
        self._live: dict[tuple[str, str], Child] = {}
        self._failed: dict[tuple[str, str], LoadFailedError] = {}
        self._cells_left: collections.Counter[tuple[str, str]] = collections.Counter()
        self.imports_s = 0.0

    def begin(self, cells: Sequence[Cell]) -> None:
        """Start the workers that a replicate needs, as many at once as there are processors: nothing is timed yet."""
        self.close()
        self._failed.clear()
        running = [cell for cell in cells if cell.preset_outcome is None]
        self._cells_left = collections.Counter((cell.found.name, cell.device) for cell in running)
        needed = {(cell.found.name, cell.device): cell.found for cell in running}
        started_at = time.monotonic()
        starting: collections.deque[tuple[tuple[str, str], Child]] = collections.deque()
        for key, found in needed.items():
            if len(starting) >= (os.cpu_count() or 1):
                self._finish(*starting.popleft())
            child = self._start(key, found)
            if child is not None:
                starting.append((key, child))
        while starting:
            self._finish(*starting.popleft())
        self.imports_s += time.monotonic() - started_at

    def get(self, found: Found, device: str) -> Child:
        """The worker of an implementation on a device, started if there is none.

        Raises:
            LoadFailedError: when it cannot be loaded.
        """
        key = (found.name, device)
        if key not in self._live and key not in self._failed:
            started_at = time.monotonic()
            child = self._start(key, found)
            if child is not None:
                self._finish(key, child)
            self.imports_s += time.monotonic() - started_at
        if key in self._failed:
            raise self._failed[key]
        return self._live[key]

    def done(self, found: Found, device: str, *, keep: bool) -> None:
        """A cell is over. Its worker goes unless it is to be kept and has cells left."""
        key = (found.name, device)
        self._cells_left[key] -= 1
        if key in self._live and (not keep or self._cells_left[key] <= 0):
            self._live.pop(key).close()

    def close(self) -> None:
        """End all workers."""
        while self._live:
            self._live.popitem()[1].close()

    def _start(self, key: tuple[str, str], found: Found) -> Child | None:
        """Start a process and ask it to load, without waiting."""
        said = found.declaration
        interpreter = (said.interpreter if said else None) or self._python
        try:
            child = start_worker(self._threads, self._environment, interpreter, self._folder)
        except OSError as error:
            self._failed[key] = LoadFailedError("unavailable", f"{interpreter} cannot be started: {error.strerror}")
            return None
        request = {
            "do": "load",
            "kind": found.origin.kind,
            "target": found.origin.target,
            "implementation": found.name,
            "threads": self._threads,
        }
        try:
            child.send(request)
        except ChildGoneError as gone:
            self._failed[key] = LoadFailedError(gone.status, gone.reason)
            child.close()
            return None
        return child

    def _finish(self, key: tuple[str, str], child: Child) -> None:
        """Wait until a worker has loaded."""
        try:
            answer = child.receive(LOAD_TIMEOUT_S)
        except ChildGoneError as gone:
            self._failed[key] = LoadFailedError(gone.status, gone.reason)
            child.close()
            return
        if answer["status"] != "ok":
            self._failed[key] = LoadFailedError(answer["status"], answer["reason"])
            child.close()
            return
        self._live[key] = child
