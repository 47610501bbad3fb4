"""A machine that runs workers: it starts them, and reports its memory, devices and peaks."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from attnbench.machine.environment import environment, libraries
from attnbench.machine.hardware.devices import device_unavailable
from attnbench.machine.hardware.memory import available_bytes
from attnbench.machine.pace.peaks import measure_peaks
from attnbench.transport.child import Child, RankGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.machine.pace.peaks import Peaks
    from attnbench.transport.executor import Executor


class Host(ABC):
    """The machine that runs the workers, from the runner's point of view."""

    @abstractmethod
    def start_worker(self, threads: int, environment: Mapping[str, str], interpreter: str | None = None) -> Executor:
        """Start a worker that has not loaded anything.

        ``interpreter`` is the implementation's own Python, if it has one.

        Raises:
            OSError: if it cannot be started.
        """

    def start_ranks(
        self, ranks: int, threads: int, environment: Mapping[str, str], interpreter: str | None = None
    ) -> Executor:
        """Start a worker of several processes, which share the threads; see :meth:`start_worker`.

        Raises:
            OSError: if they cannot be started here.
        """
        raise OSError(errno.ENOTSUP, "ranks run on this machine only")

    @abstractmethod
    def processors(self) -> int:
        """Return how many workers can load at once."""

    @abstractmethod
    def available_bytes(self) -> int:
        """Return the available memory in bytes."""

    @abstractmethod
    def device_unavailable(self, device: str) -> str | None:
        """Return why a device is unavailable, or ``None``."""

    @abstractmethod
    def peaks(self, device: str, threads: int, *, quick: bool) -> Peaks:
        """Measure the peaks of a device."""

    @abstractmethod
    def environment(self) -> Mapping[str, Any]:
        """Return hardware, system and Python, in the form of a run file's header."""

    @abstractmethod
    def libraries(self, threads: int) -> Mapping[str, Any]:
        """Return the numerical libraries, in the form of a run file's header."""


@dataclasses.dataclass(frozen=True)
class LocalHost(Host):
    """This machine."""

    python: str = sys.executable
    """Interpreter of workers whose implementations have none of their own."""
    folder: str | None = None
    """Working directory of workers; ``None`` for the current one."""

    def start_worker(self, threads: int, environment: Mapping[str, str], interpreter: str | None = None) -> Executor:
        # -P keeps the current folder off the import path: a statistics.py there would shadow the library's.
        command = [interpreter or self.python, "-P", "-m", "attnbench.worker", "{read}", "{write}", str(threads)]
        return Child(command, environment, self.folder)

    def start_ranks(
        self, ranks: int, threads: int, environment: Mapping[str, str], interpreter: str | None = None
    ) -> Executor:
        module = ["-P", "-m", "attnbench.worker.ranks"]
        command = [interpreter or self.python, *module, "{read}", "{write}", str(threads), str(ranks)]
        return RankGroup(command, environment, self.folder)

    def processors(self) -> int:
        return os.cpu_count() or 1

    def available_bytes(self) -> int:
        return available_bytes()

    def device_unavailable(self, device: str) -> str | None:
        return device_unavailable(device)

    def peaks(self, device: str, threads: int, *, quick: bool) -> Peaks:
        return measure_peaks(device, threads, quick=quick)

    def environment(self) -> Mapping[str, Any]:
        return environment()

    def libraries(self, threads: int) -> Mapping[str, Any]:
        return libraries(threads)


LOCAL_HOST = LocalHost()
