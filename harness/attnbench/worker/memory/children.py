"""Memory of processes that a call starts, which the kernel does not count as the worker's."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
from pathlib import Path

import psutil

_PAGE = resource.getpagesize()


@dataclasses.dataclass(frozen=True)
class Children:
    """The child processes at one moment."""

    resident: dict[int, int]
    """Resident bytes of each living child."""
    faults: int
    """Page faults, over their whole lives, of children that have ended and were waited for."""

    def peak_since(self) -> int:
        """Return an upper bound of the bytes that they took since then.

        For a child that began or ended since then, it counts the pages that it touched; for one that lived before, the
        growth of its high-water mark above its resident size.
        """
        now = _living()
        began = sum(_faults(process) for pid, process in now.items() if pid not in self.resident)
        grew = sum(max(0, _peak(pid) - self.resident[pid]) for pid in now if pid in self.resident)
        return _PAGE * (_faults_of_ended() - self.faults + began) + grew


def children() -> Children:
    """Return the current child processes, and reset the high-water marks of those that live."""
    resident: dict[int, int] = {}
    for pid, process in _living().items():
        with contextlib.suppress(psutil.Error, OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            resident[pid] = process.memory_info().rss
    return Children(resident, _faults_of_ended())


def _living() -> dict[int, psutil.Process]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}  # there are none: psutil would look at every process of the machine
    return {process.pid: process for process in psutil.Process().children(recursive=True)}


def _faults_of_ended() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


def _faults(process: psutil.Process) -> int:
    """Return a process's page faults so far (proc(5), stat, field 10: minflt)."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[7])
    return 0


def _peak(pid: int) -> int:
    """Return a process's high-water mark in bytes, or 0 if the process has ended."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    return 0
