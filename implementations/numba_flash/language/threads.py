"""Runs a kernel on several threads.

If torch computes with GNU's OpenMP, torch's own threads help, as two teams would compete for the processors. A team
waits for all of its threads, and if they sleep between calls (``OMP_WAIT_POLICY=passive``) each call includes two
wake-ups. In that case, and without such an OpenMP or after a fork, a :class:`Pool` is used instead.

In a pool the caller starts at once. Helpers join when they are ready, and at the end the caller waits only for those
that have joined: a helper that is not scheduled delays nobody. While one thread's call has the helpers, other threads
compute their calls alone. A helper without work spins for ``SPIN_SECONDS``, yielding the processor meanwhile; then, or
at once if threads should sleep, it sleeps until it is woken.

A pool is a block of 64-bit integers; those that threads contend for have a cache line each::

    0    the open call: the number of helpers that may still join, plus ``JOINED`` for each that has joined
    8    1 while a call has the helpers
    16   the number of sleeping helpers that nobody has woken yet
    24   kernel and block of the call; nanoseconds to spin; the ends of a pipe, through which a byte wakes a helper
"""

from __future__ import annotations

import _thread
import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .compiling import Codegen, Pointer, compiled, intrinsic, kept
from .llvm import integer
from .scheduling import added, pause, replaced, seen, start

SPIN_SECONDS = 100e-6
LOOKS = 32  # at the awaited word, before the processor is yielded
OPEN, BUSY, ASLEEP, KERNEL, BLOCK, SPIN, READ, WRITE, WORDS = 0, 8, 16, 24, 25, 26, 27, 28, 32
LINE = 64
JOINED = 1 << 32


# --- The system's functions -------------------------------------------------------------------------------------------


def _call(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    """Call a function of the C library that returns a 64-bit integer, or nothing that is read."""
    kind = ir.FunctionType(ir.IntType(64), [argument.type for argument in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic
def sleep(context: Any, file: Any) -> tuple[Any, Codegen]:
    """Wait for a byte in a pipe, and read it; a signal may end the wait early."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        place = cgutils.alloca_once(builder, ir.IntType(64))
        return _call(builder, "read", builder.trunc(args[0], ir.IntType(32)), place, integer(1))

    return types.int64(types.int64), codegen


@intrinsic
def wake(context: Any, file: Any, words: Any, count: Any) -> tuple[Any, Codegen]:
    """Write ``count`` bytes of any value to a pipe."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _call(builder, "write", builder.trunc(args[0], ir.IntType(32)), *args[1:])

    return types.int64(types.int64, words, types.int64), codegen


@intrinsic
def offer_processor(context: Any) -> tuple[Any, Codegen]:
    """Yield the processor to another thread, if one waits for it."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        _call(builder, "sched_yield")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def nanoseconds(context: Any) -> tuple[Any, Codegen]:
    """Return the time of the monotonic clock in nanoseconds."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        place = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(64), 2))
        _call(builder, "clock_gettime", ir.Constant(ir.IntType(32), time.CLOCK_MONOTONIC), place)
        now = builder.load(place)
        whole = builder.mul(builder.extract_value(now, 0), integer(1_000_000_000))
        return builder.add(whole, builder.extract_value(now, 1))

    return types.int64(), codegen


# --- The threads ------------------------------------------------------------------------------------------------------


@compiled
def close(pool: Pointer) -> None:
    """Close the call to further helpers, as all of its tasks are taken."""
    state = seen(pool, OPEN)
    while not replaced(pool, OPEN, state, state & -JOINED):
        state = seen(pool, OPEN)


@compiled
def roused(pool: Pointer, most: int) -> int:
    """Claim sleeping helpers to be woken, at most ``most``; return how many."""
    sleepers = seen(pool, ASLEEP)
    while not replaced(pool, ASLEEP, sleepers, sleepers - min(sleepers, most)):
        sleepers = seen(pool, ASLEEP)
    return min(sleepers, most)


def launch(pool: Pointer, kernel: int, block: int, helpers: int) -> None:
    """Run a kernel on this thread, and on up to ``helpers`` helpers that join."""
    if not replaced(pool, BUSY, 0, 1):
        start(kernel, block)
        return
    pool[KERNEL], pool[BLOCK] = kernel, block
    added(pool, OPEN, helpers)
    sleepers = roused(pool, min(helpers, WORDS * 8))
    if sleepers > 0:
        wake(pool[WRITE], pool, sleepers)
    start(kernel, block)
    close(pool)
    looks = 0
    while seen(pool, OPEN) != 0:
        pause()
        looks += 1
        if looks % LOOKS == 0:
            offer_processor()
    added(pool, BUSY, -1)


def serve(pool: Pointer) -> None:
    """Serve calls as a helper, forever."""
    until, looks = nanoseconds() + pool[SPIN], 0
    while True:
        state = seen(pool, OPEN)
        if state & (JOINED - 1):
            if replaced(pool, OPEN, state, state - 1 + JOINED):
                start(pool[KERNEL], pool[BLOCK])
                close(pool)
                added(pool, OPEN, -JOINED)
                until, looks = nanoseconds() + pool[SPIN], 0
            continue
        if looks % LOOKS == 0:
            if looks > 0:
                offer_processor()
            if nanoseconds() >= until:
                added(pool, ASLEEP, 1)
                # A caller that opened a call before this point has not seen this helper as sleeping.
                if seen(pool, OPEN) & (JOINED - 1) == 0 or roused(pool, 1) == 0:
                    sleep(pool[READ])
                until, looks = nanoseconds() + pool[SPIN], -1
        looks += 1
        pause()


class Threads:
    """The threads of this process: torch's OpenMP team or a pool."""

    def __init__(self) -> None:
        self._team = team_of_torch()
        self._pool: Pool | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self._end)

    def start(self, kernel: int, block: int, threads: int) -> None:
        """Call the kernel at one address with the block at another on ``threads`` threads, including this one."""
        if self._team is not None:
            self._team(kernel, block, threads, 0)
            return
        if self._pool is None:
            with self._lock:
                self._pool = self._pool or Pool()
        self._pool.start(kernel, block, threads - 1)

    @property
    def owner(self) -> str:
        """Name of the library that the threads belong to, for display."""
        return "a pool" if self._team is None else "torch's OpenMP"

    def _forked(self) -> None:
        """Drop the threads in a forked child, where only this one is left: a team would wait for the others."""
        if self._pool is not None:
            self._pool.abandon()
        self._team, self._pool, self._lock = None, None, threading.Lock()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.rest()


def team_of_torch() -> Callable[[int, int, int, int], None] | None:
    """Return ``GOMP_parallel`` of torch's OpenMP, a function of (function, its argument, threads, 0).

    Its threads spin after a parallel region of torch, as long as ``GOMP_SPINCOUNT`` says; other threads would have to
    compete with them for processors.

    Returns:
        The function; ``None`` if there is none, or its threads should sleep.
    """
    import torch

    if sleeping_is_asked_for():
        return None
    try:
        team = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    team.argtypes, team.restype = (ctypes.c_int64, ctypes.c_int64, ctypes.c_uint, ctypes.c_uint), None
    return cast("Callable[[int, int, int, int], None]", team)


def sleeping_is_asked_for() -> bool:
    """Whether waiting threads should sleep at once."""
    return os.environ.get("OMP_WAIT_POLICY", "").strip().lower() == "passive"


class Pool:
    """A pool of helper threads, as many as the largest call has requested."""

    def __init__(self) -> None:
        self._launch = ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * 4)(kept(launch, *(types.int64,) * 3))
        self._serve = ctypes.CFUNCTYPE(None, ctypes.c_int64)(kept(serve))
        self._pipe, self._lock, self._helpers = os.pipe(), threading.Lock(), 0
        # Never freed: helpers outlive all that Python frees at exit.
        allocate = ctypes.pythonapi.PyMem_RawCalloc
        allocate.argtypes, allocate.restype = (ctypes.c_size_t, ctypes.c_size_t), ctypes.c_size_t
        self._address = -(-allocate(8 * WORDS + LINE, 1) // LINE) * LINE
        self._words = (ctypes.c_int64 * WORDS).from_address(self._address)
        self._words[SPIN] = 0 if sleeping_is_asked_for() else round(1e9 * SPIN_SECONDS)
        self._words[READ], self._words[WRITE] = self._pipe

    def start(self, kernel: int, block: int, helpers: int) -> None:
        """Call the kernel at one address with the block at another, on this thread and at most ``helpers`` more."""
        if helpers > self._helpers:
            with self._lock:
                while self._helpers < helpers:
                    _thread.start_new_thread(self._serve, (self._address,))
                    self._helpers += 1
        self._launch(self._address, kernel, block, helpers)

    def abandon(self) -> None:
        """Close the pipe, which no helper reads any more."""
        for end in self._pipe:
            os.close(end)

    def rest(self) -> None:
        """Let the helpers sleep before their code is unloaded with the interpreter."""
        self._words[SPIN] = 0
        until = time.monotonic() + 1
        while self._words[ASLEEP] < self._helpers and time.monotonic() < until:
            time.sleep(SPIN_SECONDS)
