"""A machine that runs workers: starts them, and reports its memory, devices and peaks."""

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
    """The machine that runs the workers, as the runner sees it."""

    @abstractmethod
    def start_worker(self, threads: int, environment: Mapping[str, str], interpreter: str | None = None) -> Executor:
        """A worker that has not loaded anything yet.

        ``interpreter`` is the implementation's own Python, where it has one.

        Raises:
            OSError: when it cannot be started.
        """

    def start_ranks(
        self, ranks: int, threads: int, environment: Mapping[str, str], interpreter: str | None = None
    ) -> Executor:
        """A worker that is several processes, as :meth:`start_worker`; they share the threads.

        Raises:
            OSError: when they cannot be started here.
        """
        raise OSError(errno.ENOTSUP, "ranks run on this machine only")

    @abstractmethod
    def processors(self) -> int:
        """How many workers can load at once."""

    @abstractmethod
    def available_bytes(self) -> int:
        """Memory that is left."""

    @abstractmethod
    def device_unavailable(self, device: str) -> str | None:
        """Why there is no such device, or ``None``."""

    @abstractmethod
    def peaks(self, device: str, threads: int, *, quick: bool) -> Peaks:
        """The peaks of a device, measured now."""

    @abstractmethod
    def environment(self) -> Mapping[str, Any]:
        """Hardware, system and Python, as a run file's header has them."""

    @abstractmethod
    def libraries(self, threads: int) -> Mapping[str, Any]:
        """The numerical libraries, as a run file's header has them."""


@dataclasses.dataclass(frozen=True)
class LocalHost(Host):
    """This machine."""

    python: str = sys.executable
    """Runs those workers whose implementations have no interpreter of their own."""
    folder: str | None = None
    """The folder in which workers are started; default the current one."""

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
