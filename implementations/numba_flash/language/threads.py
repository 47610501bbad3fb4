"""A kernel on several threads.

Where torch computes with GNU's OpenMP, its own threads help: two teams would take the processors from each other. A
team waits for all of its threads, and where they sleep between calls (``OMP_WAIT_POLICY=passive``) two wakes lie in
each call. There, and where there is no such OpenMP or it was left behind by a fork, a :class:`Pool` is used instead.

In a pool the caller begins at once. Helpers join as they come, and in the end the caller waits for those that have
joined, never for one that has not: a helper that the system lets wait holds up nobody. While one thread's call has the
helpers, other threads compute their calls alone. A helper without work spins for ``SPIN_SECONDS``, and offers the
processor to others meanwhile; then, or at once where threads are to sleep, it sleeps until it is called.

A pool is a block of 64-bit integers, those that threads contend for in a cache line each::

    0    the call that is open: how many may still join, and ``JOINED`` for each that has joined
    8    1 while a call has the helpers
    16   helpers that sleep and that nobody has woken yet
    24   kernel and block of the call; nanoseconds to spin; the ends of a pipe for reading and writing, a byte a helper
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
LOOKS = 32  # at the word that is waited for, until the processor is offered to others
OPEN, BUSY, ASLEEP, KERNEL, BLOCK, SPIN, READ, WRITE, WORDS = 0, 8, 16, 24, 25, 26, 27, 28, 32
LINE = 64
JOINED = 1 << 32


# --- The system's functions -------------------------------------------------------------------------------------------


def _call(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    """A function of the C library that returns a 64-bit integer, or nothing that is read."""
    kind = ir.FunctionType(ir.IntType(64), [argument.type for argument in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic
def sleep(context: Any, file: Any) -> tuple[Any, Codegen]:
    """Wait for a byte in a pipe, and take it; a signal may end that early."""

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
    """The monotonic clock."""

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
    """Let nobody else join the call: all of its tasks are taken."""
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
    """Compute on this thread and on those of ``helpers`` others that join it."""
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
    """Help whoever calls, for ever."""
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
                # A caller that opened a call before has not seen this helper among those that sleep.
                if seen(pool, OPEN) & (JOINED - 1) == 0 or roused(pool, 1) == 0:
                    sleep(pool[READ])
                until, looks = nanoseconds() + pool[SPIN], -1
        looks += 1
        pause()


class Threads:
    """How kernels come to several threads in this process."""

    def __init__(self) -> None:
        self._team = team_of_torch()
        self._pool: Pool | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self._end)

    def start(self, kernel: int, block: int, threads: int) -> None:
        """Call the kernel at an address with the block at another on so many threads, of which this one is one."""
        if self._team is not None:
            self._team(kernel, block, threads, 0)
            return
        if self._pool is None:
            with self._lock:
                self._pool = self._pool or Pool()
        self._pool.start(kernel, block, threads - 1)

    @property
    def owner(self) -> str:
        """The library that they belong to, for people."""
        return "a pool" if self._team is None else "torch's OpenMP"

    def _forked(self) -> None:
        """In a child, in which no thread but this one is left: a team would wait for the others."""
        if self._pool is not None:
            self._pool.abandon()
        self._team, self._pool, self._lock = None, None, threading.Lock()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.rest()


def team_of_torch() -> Callable[[int, int, int, int], None] | None:
    """``GOMP_parallel`` of the OpenMP that torch computes with: (function, its argument, threads, 0).

    Its threads spin after a parallel part of torch, for as long as ``GOMP_SPINCOUNT`` says; other threads would have to
    take the processors from them.

    Returns:
        The function; ``None`` where there is none, or its threads are to sleep.
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
    """Whether threads that wait are to sleep at once."""
    return os.environ.get("OMP_WAIT_POLICY", "").strip().lower() == "passive"


class Pool:
    """Helpers, as many as were ever asked for together."""

    def __init__(self) -> None:
        self._launch = ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * 4)(kept(launch, *(types.int64,) * 3))
        self._serve = ctypes.CFUNCTYPE(None, ctypes.c_int64)(kept(serve))
        self._pipe, self._lock, self._helpers = os.pipe(), threading.Lock(), 0
        # Never given back: a helper outlives whatever Python frees in the end.
        allocate = ctypes.pythonapi.PyMem_RawCalloc
        allocate.argtypes, allocate.restype = (ctypes.c_size_t, ctypes.c_size_t), ctypes.c_size_t
        self._address = -(-allocate(8 * WORDS + LINE, 1) // LINE) * LINE
        self._words = (ctypes.c_int64 * WORDS).from_address(self._address)
        self._words[SPIN] = 0 if sleeping_is_asked_for() else round(1e9 * SPIN_SECONDS)
        self._words[READ], self._words[WRITE] = self._pipe

    def start(self, kernel: int, block: int, helpers: int) -> None:
        """Call the kernel at an address with the block at another, on this thread and ``helpers`` more at most."""
        if helpers > self._helpers:
            with self._lock:
                while self._helpers < helpers:
                    _thread.start_new_thread(self._serve, (self._address,))
                    self._helpers += 1
        self._launch(self._address, kernel, block, helpers)

    def abandon(self) -> None:
        """Close the pipe, where no helper reads it."""
        for end in self._pipe:
            os.close(end)

    def rest(self) -> None:
        """Let the helpers sleep, before their code goes with the interpreter."""
        self._words[SPIN] = 0
        until = time.monotonic() + 1
        while self._words[ASLEEP] < self._helpers and time.monotonic() < until:
            time.sleep(SPIN_SECONDS)
