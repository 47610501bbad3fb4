"""Samples of threads, and the messages if the system refuses them."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.profiling import perf_events
from attnbench.profiling.perf_events import Sampler, SamplingRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_NS, STACK_BYTES = 1_000_000, 4096


def refusing(number: int) -> Callable[[Any, int], int]:
    """Return an opener that refuses every event with an error number."""

    def opener(attribute: Any, thread: int) -> int:
        raise OSError(number, os.strerror(number))

    return opener


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, r"perf_event_paranoid is -?\d.*sysctl.*seccomp"),
        (errno.EPERM, r"perf_event_paranoid is -?\d.*docker run"),
        (errno.ENOSYS, "has no perf_event_open, or hides it"),
        (errno.EMFILE, "refuses perf_event_open"),
    ],
)
def test_a_refusal_is_a_sentence_with_what_to_do(number: int, said: str) -> None:
    with pytest.raises(SamplingRefusedError, match=said), Sampler(PERIOD_NS, STACK_BYTES, refusing(number)):
        pytest.fail("it was entered")


@pytest.fixture
def sampler() -> Sampler:
    """Return a sampler, or skip the test if this machine refuses one."""
    try:
        with Sampler(PERIOD_NS, STACK_BYTES):
            pass
    except SamplingRefusedError as refused:
        pytest.skip(str(refused))
    return Sampler(PERIOD_NS, STACK_BYTES)


def spin(seconds: float) -> None:
    """Use the processor for ``seconds``."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_threads_are_sampled_in_proportion_to_their_processor_time(sampler: Sampler) -> None:
    later = threading.Thread(target=spin, args=(0.2,))
    with sampler:
        later.start()  # starts while samples are taken
        spin(0.2)
        later.join()
    here = [one for one in sampler.samples if one.thread == threading.get_native_id()]
    there = [one for one in sampler.samples if one.thread == later.native_id]
    assert 100 <= len(here) <= 300
    assert 80 <= len(there) <= 300
    assert all(0 < len(one.stack) <= STACK_BYTES for one in here if one.stack_pointer)


def test_samples_lie_within_the_time_in_which_they_were_taken(sampler: Sampler) -> None:
    began = time.monotonic_ns()
    with sampler:
        spin(0.05)
    ended = time.monotonic_ns()
    assert sampler.samples
    assert all(began <= one.time_ns <= ended for one in sampler.samples)


def test_without_the_kernel_user_code_alone_is_sampled() -> None:
    """Without privileges, no more is allowed."""

    def opener(attribute: Any, thread: int) -> int:
        if not int.from_bytes(bytes(attribute)[40:48], "little") & 1 << 5:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return perf_events.open_event(attribute, thread)

    sampler = Sampler(PERIOD_NS, STACK_BYTES, opener)
    try:
        with sampler:
            spin(0.1)
    except SamplingRefusedError as refused:
        pytest.skip(str(refused))
    assert not sampler.with_kernel
    assert sampler.samples
    assert all(one.address < 1 << 63 for one in sampler.samples)


def test_no_descriptor_and_no_thread_is_left(sampler: Sampler) -> None:
    before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208 - counted
    with sampler:
        spin(0.01)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before  # noqa: PTH208 - counted


UNDER_A_FILTER = textwrap.dedent(
    """
    import ctypes, struct, sys
    # seccomp(2): perf_event_open fails with EPERM, as in a container of Docker's; all other calls are allowed.
    number = {"x86_64": 298, "aarch64": 241}[__import__("platform").machine()]
    program = b"".join(struct.pack("<HBBI", *one) for one in (
        (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)))
    kept = ctypes.create_string_buffer(program)
    class Program(ctypes.Structure):
        _fields_ = [("count", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(Program(4, ctypes.addressof(kept))), 0, 0) == 0
    """
)


def test_a_filter_of_a_container_is_a_refusal_and_no_crash() -> None:
    program = UNDER_A_FILTER + textwrap.dedent(
        """
        from attnbench.profiling.perf_events import Sampler, SamplingRefusedError
        try:
            with Sampler(1_000_000, 4096):
                print("sampled")
        except SamplingRefusedError as refused:
            print(refused)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the system refuses perf_event_open (Operation not permitted)" in done.stdout
    assert "seccomp" in done.stdout


def test_an_attribute_is_as_long_as_its_first_words_say() -> None:
    """PERF_ATTR_SIZE_VER8; older kernels take a shorter one, and refuse fields that they do not know."""
    seen: list[bytes] = []

    def opener(attribute: Any, thread: int) -> int:
        seen.append(bytes(attribute))
        raise OSError(errno.EACCES, "no")

    with pytest.raises(SamplingRefusedError), Sampler(PERIOD_NS, STACK_BYTES, opener):
        pass
    assert all(int.from_bytes(one[4:8], "little") == len(one) == ctypes.sizeof(ctypes.c_char * 136) for one in seen)
