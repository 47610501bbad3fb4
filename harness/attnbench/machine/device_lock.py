"""Lock that lets one measuring run at a time use a GPU of this machine, across all users."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.machine.hardware.devices import NoGPUError, nvml, text_of, visible_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def devices_to_ourselves(
    devices: Sequence[str], say: Callable[[str], object], folder: Path | None = None, *, alone: bool = True
) -> Iterator[None]:
    """Hold the GPU that runs use until the end of the block, if one of the devices is ``cuda``.

    Another attnbench that holds it is waited for. Other programs on it are only reported, before work starts here.

    ``alone`` says whether times or memory are measured. If not, the run waits for a measuring one but does not hold the
    lock, so that runs which only check can share the GPU. The lock file is in ``folder``, by default the system's
    folder for temporary files, which all users share.
    """
    if "cuda" not in devices:
        yield
        return
    from filelock import FileLock, Timeout

    uuid, others = first_gpu()
    path = (folder or Path(tempfile.gettempdir())) / f"attnbench-{uuid or 'cuda'}.lock"
    lock = FileLock(path, mode=0o666)  # other users must be able to lock the same file
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another attnbench measures on this GPU: waiting for it ({path})")
        lock.acquire()
        _, others = first_gpu()
    try:
        if not alone:
            lock.release()
        elif others:
            ids = ", ".join(str(pid) for pid in others)
            count = "another process computes" if len(others) == 1 else f"{len(others)} other processes compute"
            say(f"{count} on this GPU (process {ids}): times and free memory will not be what they could be")
        yield
    finally:
        lock.release()


def first_gpu() -> tuple[str | None, list[int]]:
    """Return the UUID of the first visible GPU, which workers use, and the other processes that compute on it."""
    try:
        with nvml() as library:
            gpus = visible_gpus(library)
            if not gpus:
                return None, []
            uuid = text_of(library.nvmlDeviceGetUUID(gpus[0]))
            try:
                pids = [int(one.pid) for one in library.nvmlDeviceGetComputeRunningProcesses(gpus[0])]
            except library.NVMLError:  # some cards do not list them
                pids = []
    except NoGPUError:
        return None, []
    return uuid, [pid for pid in pids if pid != os.getpid()]
