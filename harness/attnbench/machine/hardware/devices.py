"""The devices of this machine, found without importing torch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any

from attnbench.machine.software import version_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Device:
    """A device that implementations can run on."""

    name: str
    """``cpu`` or ``cuda:0``, ``cuda:1``, ..."""
    description: str


class NoGPUError(Exception):
    """NVML, NVIDIA's management library, is missing or fails; the message says which."""


def devices() -> list[Device]:
    """Return all devices of this machine, the CPU first; :func:`device_unavailable` says why a kind is missing."""
    from attnbench.machine.hardware.cpu import cpu_model

    return [Device("cpu", cpu_model()), *_cuda_devices()]


def device_unavailable(name: str) -> str | None:
    """Return why a kind of device (``cpu`` or ``cuda``) is unavailable, or ``None``."""
    if name == "cpu":
        return None
    if name == "cuda":
        return _cuda_unavailable()
    return f"there is no kind of device {name!r}: attnbench knows cpu and cuda"


@contextlib.contextmanager
def nvml() -> Iterator[Any]:
    """Yield NVIDIA's management library, initialised; its errors inside the block become :class:`NoGPUError`.

    Raises:
        NoGPUError: with the reason.
    """
    try:
        import pynvml
    except ImportError as error:
        raise NoGPUError("the distribution nvidia-ml-py is not installed") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound as error:
        raise NoGPUError("NVML, the library of NVIDIA's driver, was not found") from error
    except pynvml.NVMLError as error:
        raise NoGPUError(f"NVML says {error}") from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise NoGPUError(f"NVML says {error}") from error
    finally:
        with contextlib.suppress(pynvml.NVMLError):  # data read before stays valid
            pynvml.nvmlShutdown()


def visible_gpus(library: Any) -> list[Any]:
    """Return NVML's handles of the GPUs that CUDA shows to a process, in CUDA's order.

    NVML ignores ``CUDA_VISIBLE_DEVICES``. As in CUDA, its entries are indices or prefixes of UUIDs, and entries after
    the first unknown one do not count (CUDA C++ Programming Guide, "CUDA Environment Variables").
    """
    handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return handles
    visible: list[Any] = []
    for word in chosen.split(","):
        handle = _handle(library, handles, word.strip())
        if handle is None:
            break
        visible.append(handle)
    return visible


def text_of(value: str | bytes) -> str:
    """Return an NVML string as ``str``; older bindings give bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _handle(library: Any, handles: list[Any], word: str) -> Any | None:
    if word.isdecimal():
        return handles[int(word)] if int(word) < len(handles) else None
    if word.startswith("MIG-"):
        try:
            return library.nvmlDeviceGetHandleByUUID(word)
        except library.NVMLError:
            return None
    named = [one for one in handles if word and text_of(library.nvmlDeviceGetUUID(one)).startswith(word)]
    return named[0] if len(named) == 1 else None


def _cuda_devices() -> list[Device]:
    try:
        with nvml() as library:
            names = [text_of(library.nvmlDeviceGetName(handle)) for handle in visible_gpus(library)]
    except NoGPUError:
        return []  # device_unavailable("cuda") says why
    return [Device(f"cuda:{index}", name) for index, name in enumerate(names)]


@functools.cache
def _cuda_unavailable() -> str | None:
    """Return why CUDA is unavailable, or ``None``. Cached: listings ask per implementation, and NVML starts slowly."""
    try:
        with nvml() as library:
            count, visible = library.nvmlDeviceGetCount(), len(visible_gpus(library))
    except NoGPUError as error:
        return f"no CUDA device: {error}"
    if not count:
        return "no CUDA device: NVML knows none"
    if not visible:
        return "no CUDA device: CUDA_VISIBLE_DEVICES hides them all"
    torch = version_of("torch")
    if torch and torch.partition("+")[2] == "cpu":
        return f"no CUDA device: torch {torch} is built without CUDA"
    return None
