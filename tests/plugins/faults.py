"""Implementations that do what workers are there to survive; each is named for it."""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from attnbench import attention

DIES_AT = 32  # with shorter sequences each of them behaves, so that a run shows that it goes on


def healthy(q, k, v, case):
    scores = q @ k.swapaxes(-1, -2) * q.dtype.type(case.scale)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def fault(name):
    """Declare an implementation that is healthy until its fault is due."""

    def declare(misbehave):
        def call(q, k, v, case):
            if case.seqlen_q >= DIES_AT:
                misbehave()
            return healthy(q, k, v, case)

        return attention(f"faults/{name}", framework="numpy")(call)

    return declare


@fault("segfault")
def segfault():
    ctypes.string_at(0)


@fault("abort")
def abort():
    os.abort()


@fault("exit")
def leave():
    os._exit(7)


@fault("sigkill")
def sigkill():
    os.kill(os.getpid(), signal.SIGKILL)


@fault("hang")
def hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


@fault("memory-error")
def memory_error():
    raise MemoryError("no room")


@fault("memory-limit")
def memory_limit():
    np.ones(4 * 2**30, np.uint8)  # the scenario of the test allows 1 GiB


@fault("raises")
def raises():
    raise ValueError("the kernel does not like this shape")


BROKEN = []


@attention("faults/broken-context", framework="numpy")
def broken_context(q, k, v, case):
    """One call fails, then every other one in the same process, as after an illegal access on a GPU."""
    if case.seqlen_q == DIES_AT or BROKEN:
        BROKEN.append(True)
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")
    return healthy(q, k, v, case)


@fault("garbage")
def garbage():
    sys.stdout.write('{"status": "ok", "time_samples_ns": [1]}\n' * 1000)
    sys.stdout.flush()
    os.write(1, b"\xff\xfe not text at all\n")
    os.write(2, b"\xff\xfe neither is this\n")


@attention("faults/patches-numpy", framework="numpy")
def patches_numpy(q, k, v, case):
    """Replaces functions that the harness itself uses; its answer is still right."""
    result = healthy(q, k, v, case)
    np.array_equal = np.prod = np.ascontiguousarray = lambda *_, **__: 0
    time.perf_counter_ns = lambda: 0
    return result


@attention("faults/wrong-shape", framework="numpy")
def wrong_shape(q, k, v, case):
    return healthy(q, k, v, case)[:, :, :-1]


@attention("faults/not-a-tensor", framework="numpy")
def not_a_tensor(q, k, v, case):
    return "done"


@attention("faults/mean-of-values", framework="numpy")
def mean_of_values(q, k, v, case):
    return np.broadcast_to(v.mean(2, keepdims=True), v.shape).copy()


@attention("faults/nan", framework="numpy")
def nan(q, k, v, case):
    out = healthy(q, k, v, case)
    out[0, 1, 2, 3] = np.nan
    return out


@attention("faults/cached-output", framework="numpy")
def cached_output(q, k, v, case):
    """Right on the first inputs, and returns the same ever after."""
    key = (q.ctypes.data, case.case_id)
    if key not in _CACHE:
        _CACHE[key] = healthy(q, k, v, case)
    return _CACHE[key].copy()


_CACHE = {}


@attention("faults/nonsense-of-itself", framework="numpy")
def nonsense_of_itself(q, k, v, case):
    return healthy(q, k, v, case)


@nonsense_of_itself.backend
def _(run):
    return ["not", "a", "name"]
