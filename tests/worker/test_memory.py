"""The peak of a call is the memory alive at once, whoever allocated it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from attnbench.worker.memory import weighing
from attnbench.worker.memory.weighing import peak_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark can be reset on Linux only")

MIB = 2**20
TOLERANCE = 256 * 2**10


def touched(size: int) -> np.ndarray:
    return np.ones(size, np.uint8)


@pytest.mark.parametrize("size", [MIB // 2, MIB, 5 * MIB, 100 * MIB])
def test_what_a_call_returns_is_counted(size: int) -> None:
    assert peak_of(lambda: touched(size)).peak_bytes == pytest.approx(size, abs=TOLERANCE)


def test_what_is_freed_before_the_call_ends_is_counted() -> None:
    def call() -> np.ndarray:
        touched(40 * MIB)
        return touched(2 * MIB)

    assert peak_of(call).peak_bytes == pytest.approx(40 * MIB, abs=TOLERANCE)


def test_what_is_not_alive_at_once_is_not_added_up() -> None:
    def call() -> None:
        for _ in range(5):
            touched(10 * MIB)

    assert peak_of(call).peak_bytes == pytest.approx(10 * MIB, abs=TOLERANCE)


def test_memory_that_the_heap_held_back_before_is_counted_all_the_same() -> None:
    touched(30 * MIB)  # freed at once, but kept by the allocator
    assert peak_of(lambda: touched(30 * MIB)).peak_bytes == pytest.approx(30 * MIB, abs=TOLERANCE)


def test_native_allocations_are_counted() -> None:
    import torch

    peak = peak_of(lambda: torch.ones(25 * MIB, dtype=torch.uint8))
    assert peak.peak_bytes == pytest.approx(25 * MIB, abs=TOLERANCE)


def test_memory_that_is_reserved_but_never_touched_is_not_counted() -> None:
    assert peak_of(lambda: np.empty(64 * MIB, np.uint8)).peak_bytes < TOLERANCE


def test_an_empty_call_needs_nothing_and_the_resolution_is_told() -> None:
    peak = peak_of(lambda: None)
    assert peak.peak_bytes <= peak.resolution_bytes
    assert 0 < peak.resolution_bytes <= MIB


def test_huge_pages_stay_disabled_where_they_were() -> None:
    libc, disable, is_disabled = ctypes.CDLL(None), 41, 42  # PR_SET_THP_DISABLE, PR_GET_THP_DISABLE
    before = libc.prctl(is_disabled, 0, 0, 0, 0)
    try:
        for wanted in (1, 0):
            assert libc.prctl(disable, wanted, 0, 0, 0) == 0
            peak_of(lambda: None)
            assert libc.prctl(is_disabled, 0, 0, 0, 0) == wanted
    finally:
        libc.prctl(disable, before, 0, 0, 0)


def test_the_set_up_is_not_counted() -> None:
    held: list[np.ndarray] = []

    def set_up() -> None:
        held[:] = [touched(50 * MIB)]

    assert peak_of(lambda: touched(3 * MIB), set_up=set_up).peak_bytes == pytest.approx(3 * MIB, abs=TOLERANCE)


def test_what_another_thread_frees_after_the_call_hides_nothing_of_the_next_one() -> None:
    def give_back(blocks: list[np.ndarray]) -> None:
        while blocks:
            blocks.pop()
            time.sleep(0.001)

    def call() -> None:
        blocks = [touched(2 * MIB) for _ in range(50)]
        threading.Thread(target=give_back, args=(blocks,)).start()

    assert peak_of(call).peak_bytes == pytest.approx(100 * MIB, abs=TOLERANCE)


def test_memory_that_falls_without_an_end_is_an_error_and_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    falling = iter(range(10**6, 0, -1))
    monkeypatch.setattr(weighing, "resident_bytes", lambda: next(falling) * MIB)
    monkeypatch.setattr(weighing, "_SETTLED_WITHIN_S", 0.05)
    with pytest.raises(weighing.UnsettledError, match="still being given back"):
        peak_of(lambda: None)


def test_an_error_of_the_call_is_the_callers_to_see() -> None:
    def call() -> None:
        raise ValueError("from the call")

    with pytest.raises(ValueError, match="from the call"):
        peak_of(call)


def test_a_call_cannot_tell_by_its_thread_that_it_is_looked_at() -> None:
    threads: set[int] = set()
    peak_of(lambda: threads.add(threading.get_ident()))
    assert threads == {threading.get_ident()}


def test_holes_that_earlier_calls_left_are_not_filled() -> None:
    """Memory freed between live blocks stays in the heap: a call that reuses it must still be charged for it."""
    weighing.prepare_allocator()
    blocks = [touched(size) for megabytes in range(1, 9) for size in (megabytes * MIB, 100_000)]
    del blocks[::2]

    def call() -> None:
        for megabytes in range(1, 9):
            touched(megabytes * MIB)

    assert peak_of(call).peak_bytes == pytest.approx(8 * MIB, abs=TOLERANCE)


def in_a_child(size: int, *, wait: bool) -> int:
    child = os.fork()
    if child == 0:
        touched(size)
        if not wait:
            time.sleep(60)
        os._exit(0)
    if wait:
        os.waitpid(child, 0)
    return child


def test_what_a_child_process_touches_is_counted() -> None:
    peak = peak_of(lambda: in_a_child(40 * MIB, wait=True)).peak_bytes
    assert 40 * MIB - TOLERANCE <= peak <= 50 * MIB, "with what the fork itself copies"


def test_a_child_that_lives_on_is_counted_when_it_grows() -> None:
    begun: list[int] = []

    def call() -> None:
        begun.append(in_a_child(40 * MIB, wait=False))
        time.sleep(0.5)

    try:
        assert peak_of(call).peak_bytes >= 40 * MIB - TOLERANCE
        assert peak_of(lambda: None).peak_bytes <= TOLERANCE, "what is there already is no peak"
    finally:
        for child in begun:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
