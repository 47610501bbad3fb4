"""Kernels whose phases are known by construction: seven parts of the work in one place, three in another."""

import threading
import time
from typing import Any

import numba
import numpy as np

from attnbench import attention

PASSES = 400
ROUNDS = 70
OPTIONS: dict[str, Any] = {"framework": "numpy", "dtypes": ["float32"]}


@numba.njit(nogil=True)
def shared(numbers: Any, passes: int) -> None:
    for _ in range(passes):
        for i in range(numbers.size):
            numbers[i] = numbers[i] * np.float32(0.999) + np.float32(0.001)


@numba.njit(nogil=True, parallel=True)
def two_calls(numbers: Any, passes: int) -> None:
    for row in numba.prange(numbers.shape[0]):
        # phase: qk
        shared(numbers[row], 7 * passes)
        # phase: pv
        shared(numbers[row], 3 * passes)


@numba.njit(nogil=True)
def two_loops(numbers: Any, passes: int) -> None:
    # phase: softmax
    for _ in range(7 * passes):
        for i in range(numbers.size):
            numbers[i] = numbers[i] * np.float32(0.999) + np.float32(0.001)
    # phase: exp
    for _ in range(3 * passes):
        for i in range(numbers.size):
            numbers[i] = numbers[i] * np.float32(0.998) + np.float32(0.002)


@attention("planted/calls", **OPTIONS)
def calls(q: Any, k: Any, v: Any, case: Any) -> Any:
    """Both parts in one function that two lines call, on as many threads as Numba has."""
    two_calls(np.ones((numba.get_num_threads(), 4096), np.float32), PASSES)
    return v.copy()


@attention("planted/loops", **OPTIONS)
def loops(q: Any, k: Any, v: Any, case: Any) -> Any:
    """Both parts in loops of one function."""
    two_loops(np.ones(4096, np.float32), PASSES)
    return v.copy()


@attention("planted/python", **OPTIONS)
def python(q: Any, k: Any, v: Any, case: Any) -> Any:
    """Both parts in one function of NumPy's, which two lines of Python call."""
    numbers = np.ones(2**20, np.float32)
    # phase: qk
    for _ in range(7):
        np.multiply(numbers, numbers, out=numbers)
    # phase: pv
    for _ in range(3):
        np.multiply(numbers, numbers, out=numbers)
    return v.copy()


@numba.njit
def two_loops_alone(numbers: Any, passes: int) -> None:
    # phase: softmax
    for _ in range(7 * passes):
        for i in range(numbers.size):
            numbers[i] = numbers[i] * np.float32(0.999) + np.float32(0.001)
    # phase: exp
    for _ in range(3 * passes):
        for i in range(numbers.size):
            numbers[i] = numbers[i] * np.float32(0.998) + np.float32(0.002)


@attention("planted/locked", **OPTIONS)
def locked(q: Any, k: Any, v: Any, case: Any) -> Any:
    """Like planted/loops, for a fifth of a second in which no other thread may run Python."""
    two_loops_alone(np.ones(4096, np.float32), 100 * PASSES)
    return v.copy()


def helper(numbers: Any) -> None:
    np.multiply(numbers, numbers, out=numbers)


@attention("planted/helper", **OPTIONS)
def helped(q: Any, k: Any, v: Any, case: Any) -> Any:
    """Like planted/python, by a function that names no phase."""
    numbers = np.ones(2**20, np.float32)
    # phase: qk
    for _ in range(7):
        helper(numbers)
    # phase: pv
    for _ in range(3):
        helper(numbers)
    return v.copy()


def first(numbers: Any) -> None:
    # phase: qk
    for _ in range(7 * ROUNDS):
        np.multiply(numbers, numbers, out=numbers)


def second(numbers: Any) -> None:
    # phase: pv
    for _ in range(3 * ROUNDS):
        np.multiply(numbers, numbers, out=numbers)


@attention("planted/threads", **OPTIONS)
def threads(q: Any, k: Any, v: Any, case: Any) -> Any:
    """Both parts on threads of its own."""
    own = [threading.Thread(target=part, args=(np.ones(2**20, np.float32),)) for part in (first, second)]
    for thread in own:
        thread.start()
    for thread in own:
        thread.join()  # phase: waiting
    return v.copy()


@attention("planted/endless", **OPTIONS)
def endless(q: Any, k: Any, v: Any, case: Any) -> Any:
    """It has a table that no name is long enough for."""
    return v.copy()


endless.phases({r"((.|\w)+)+[~^]$": "qk"})


@attention("planted/sleep", **OPTIONS)
def sleep(q: Any, k: Any, v: Any, case: Any) -> Any:
    """It computes nothing."""
    time.sleep(0.02)  # phase: softmax
    return v.copy()


@attention("planted/memory", **OPTIONS)
def memory(q: Any, k: Any, v: Any, case: Any) -> Any:
    """It takes 32 MiB for a moment."""
    np.ones(2**23, np.float32).sum()
    return v.copy()
