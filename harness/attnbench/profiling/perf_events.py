"""Samples the program counter and the stack of all threads of this process (perf_event_open(2), Linux).

The software clock of each thread's processor time needs no hardware counters, so it works in virtual machines; and a
process may sample its own user code without privileges unless the system forbids it (``kernel.perf_event_paranoid``
above 2, a container's seccomp filter).
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import itertools
import mmap
import os
import platform
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_SOFTWARE, _CPU_CLOCK = 1, 0
_IP, _TID, _TIME, _REGISTERS, _STACK_USER = 1, 2, 4, 1 << 12, 1 << 13
_FRAME_REGISTERS = {"x86_64": 1 << 6 | 1 << 7, "aarch64": 1 << 29 | 1 << 31}
"""Frame pointer and stack pointer, by their numbers in perf_regs.h; the kernel writes the lower number first."""
_DISABLED, EXCLUDE_KERNEL, EXCLUDE_HV, _USE_CLOCKID = 1, 1 << 5, 1 << 6, 1 << 25
_CLOCK_MONOTONIC = 1
_CLOSE_ON_EXEC = 8
_ENABLE, _DISABLE = 0x2400, 0x2401
_SAMPLE, _LOST = 9, 2
_ATTRIBUTE_BYTES = 136
_HEAD_AT, _TAIL_AT = 1024, 1032
_PAGE = mmap.PAGESIZE
_RING_PAGES = (2048, 512, 128, 64, 32, 16, 8)
"""Sizes of ring buffers to try, largest first: rings fill up while another thread holds the GIL and the reader waits.
Without privileges all rings together may take ``kernel.perf_event_mlock_kb`` (516) per processor."""
_LEAST_IN_RING = 64
"""Number of samples that a ring must have room for."""
_DRAIN_S = 0.01
TASKS = Path("/proc/self/task")
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")


class SamplingRefusedError(RuntimeError):
    """This process may not be sampled here. The message is a sentence with advice."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """A sample of a thread."""

    time_ns: int
    """Time by the clock of :func:`time.monotonic_ns`."""
    thread: int
    address: int
    frame_pointer: int
    stack_pointer: int
    stack: bytes
    """The words of the stack from the stack pointer upwards."""


Opener = Callable[[ctypes.Array[Any], int], int]
"""Opens an event of a thread by its attribute: returns a file descriptor, or raises :class:`OSError`."""


def open_event(attribute: ctypes.Array[Any], thread: int) -> int:
    """Open an event of a thread, and return its file descriptor.

    Raises:
        OSError: if the system has no such event, or refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYSCALL.get(platform.machine())
    if number is None or not hasattr(libc, "syscall"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    descriptor: int = libc.syscall(number, attribute, thread, -1, -1, _CLOSE_ON_EXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def attribute(
    kind: int, event: int, flags: int, *, period: int = 0, sampled: int = 0
) -> tuple[bytearray, ctypes.Array[ctypes.c_char]]:
    """Return an event's attribute (``struct perf_event_attr``): its bytes, and a ctypes view for :func:`open_event`."""
    data = bytearray(_ATTRIBUTE_BYTES)
    struct.pack_into("<IIQQQQQ", data, 0, kind, _ATTRIBUTE_BYTES, event, period, sampled, 0, flags)
    return data, (ctypes.c_char * _ATTRIBUTE_BYTES).from_buffer(data)


class Sampler:
    """A context manager that samples the threads of this process. Threads that start meanwhile are found within 10 ms.

    Samples of a thread are ``period_ns`` of its processor time apart. Each keeps ``stack_bytes`` of the stack, a
    multiple of 8, or less if rings must be small.

    Raises:
        SamplingRefusedError: if the system refuses.
    """

    def __init__(self, period_ns: int, stack_bytes: int, opener: Opener = open_event) -> None:
        self._period_ns, self._stack_bytes, self._opener = period_ns, stack_bytes, opener
        self._rings: dict[int, _Ring] = {}
        self._pages = _RING_PAGES[-1]
        self._over, self._is_open, self._reading = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._drain, name="attnbench-sampler", daemon=True)
        self.samples: list[Sample] = []
        self.lost = 0
        self.with_kernel = True
        """Whether time in the kernel is sampled, too."""

    def __enter__(self) -> Sampler:
        self._thread.start()
        try:
            self._open_rings()
        except OSError as error:
            self._stop()
            raise SamplingRefusedError(_advice(error)) from error
        for ring in self._rings.values():
            ring.start()
        self._is_open.set()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def catch_up(self) -> None:
        """Read the rings if one is half full: a call that holds the GIL keeps the reader thread waiting."""
        if any(ring.is_half_full for ring in list(self._rings.values())):
            self._read()

    def _stop(self) -> None:
        for ring in self._rings.values():
            ring.stop()
        self._over.set()
        self._is_open.set()
        self._thread.join()
        self._read()
        self._close()

    def _close(self) -> None:
        while self._rings:
            self._rings.popitem()[1].close()

    @property
    def own_ns(self) -> int:
        """Processor time of the thread that reads samples."""
        assert self._thread.ident is not None  # it runs while the sampler is entered
        return time.clock_gettime_ns(time.pthread_getcpuclockid(self._thread.ident))

    @property
    def own_thread(self) -> int | None:
        """System id of the thread that reads samples, which is not sampled."""
        return self._thread.native_id

    def _open_rings(self) -> None:
        """Open an event per thread, with kernel samples if allowed, and with the largest rings that all may have."""
        for with_kernel, pages in itertools.product((True, False), _RING_PAGES):
            self.with_kernel, self._pages = with_kernel, pages
            try:
                for thread in self._new_threads():
                    with contextlib.suppress(ProcessLookupError):  # it is over already
                        self._rings[thread] = self._ring(thread, pages)
            except OSError as error:
                refused = error
                self._close()
            else:
                return
        raise refused

    def _new_threads(self) -> list[int]:
        """List threads that are not sampled yet."""
        threads = [int(task.name) for task in TASKS.iterdir()]
        return [thread for thread in threads if thread not in self._rings and thread != self.own_thread]

    def _ring(self, thread: int, pages: int) -> _Ring:
        flags = _DISABLED | EXCLUDE_HV | _USE_CLOCKID | (0 if self.with_kernel else EXCLUDE_KERNEL)
        sampled = _IP | _TID | _TIME | _REGISTERS | _STACK_USER
        data, taken = attribute(_SOFTWARE, _CPU_CLOCK, flags, period=self._period_ns, sampled=sampled)
        registers = _FRAME_REGISTERS.get(platform.machine(), 0)
        stack_bytes = min(self._stack_bytes, pages * _PAGE // _LEAST_IN_RING // 8 * 8)
        struct.pack_into("<QIi", data, 80, registers, stack_bytes, _CLOCK_MONOTONIC)
        return _Ring(self._opener(taken, thread), pages)

    def _drain(self) -> None:
        self._is_open.wait()
        while not self._over.wait(_DRAIN_S):
            self._read()
            for thread in self._new_threads():
                with contextlib.suppress(OSError):  # the thread has ended, or is one too many; go on with the others
                    ring = self._ring(thread, self._pages)
                    self._rings[thread] = ring
                    ring.start()

    def _read(self) -> None:
        with self._reading:
            for ring in list(self._rings.values()):
                self._keep(ring.take())

    def _keep(self, data: bytes) -> None:
        at = 0
        while at + 8 <= len(data):
            kind, _, size = struct.unpack_from("<IHH", data, at)
            if kind == _SAMPLE:
                self.samples.append(_sample(data, at))
            elif kind == _LOST:
                self.lost += struct.unpack_from("<Q", data, at + 16)[0]
            at += max(size, 8)


class _Ring:
    """The ring buffer into which the kernel writes samples of one thread."""

    def __init__(self, descriptor: int, pages: int) -> None:
        self._descriptor, self._size = descriptor, pages * _PAGE
        try:
            self._memory = mmap.mmap(descriptor, _PAGE + self._size)
        except OSError:
            os.close(descriptor)
            raise

    def start(self) -> None:
        """Start counting."""
        fcntl.ioctl(self._descriptor, _ENABLE, 0)

    def stop(self) -> None:
        """Stop counting; samples already written can still be read."""
        fcntl.ioctl(self._descriptor, _DISABLE, 0)

    def close(self) -> None:
        """Release the buffer and its file descriptor."""
        self._memory.close()
        os.close(self._descriptor)

    @property
    def is_half_full(self) -> bool:
        """Whether more than half of the buffer is unread."""
        (head,) = struct.unpack_from("<Q", self._memory, _HEAD_AT)
        (tail,) = struct.unpack_from("<Q", self._memory, _TAIL_AT)
        return bool(2 * (head - tail) > self._size)

    def take(self) -> bytes:
        """Return everything that was written since the last call."""
        (head,) = struct.unpack_from("<Q", self._memory, _HEAD_AT)
        (tail,) = struct.unpack_from("<Q", self._memory, _TAIL_AT)
        size = self._size
        start, end = tail % size, tail % size + head - tail
        data = self._memory[_PAGE + start : _PAGE + min(end, size)]
        if end > size:
            data += self._memory[_PAGE : _PAGE + end - size]
        struct.pack_into("<Q", self._memory, _TAIL_AT, head)
        return data


def _sample(data: bytes, at: int) -> Sample:
    address, _, thread, time_ns, has_registers = struct.unpack_from("<QIIQQ", data, at + 8)
    at += 40
    frame_pointer = stack_pointer = 0
    if has_registers:
        frame_pointer, stack_pointer = struct.unpack_from("<QQ", data, at)
        at += 16
    stack = b""
    (kept,) = struct.unpack_from("<Q", data, at)
    if kept:
        (filled,) = struct.unpack_from("<Q", data, at + 8 + kept)
        stack = data[at + 8 : at + 8 + filled]
    return Sample(time_ns, thread, address, frame_pointer, stack_pointer, stack)


def _advice(error: OSError) -> str:
    """Return why sampling was refused, and what helps."""
    if error.errno == errno.ENOSYS:
        return f"this system ({platform.system()} on {platform.machine()}) has no perf_event_open, or hides it"
    refused = f"the system refuses perf_event_open ({error.strerror})"
    if error.errno not in (errno.EACCES, errno.EPERM):
        return refused
    level = PARANOID.read_text().strip() if PARANOID.exists() else "unknown"
    return (
        f"{refused}: kernel.perf_event_paranoid is {level}, and 2 or less lets a process sample itself "
        "(sudo sysctl kernel.perf_event_paranoid=2); in a container, seccomp may refuse it too "
        "(docker run --cap-add PERFMON, or a profile that allows perf_event_open)"
    )
