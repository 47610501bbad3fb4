"""The threads of ``numba/flash``: who helps, who is waited for, and what a fork leaves."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba import types

from attnbench import make_case
from tests.implementations.conftest import operands_of

PACKAGE = "attnbench.implementations.numba_flash"
ENTRY = importlib.import_module(f"{PACKAGE}.entry")
SCHEDULING, THREADS = (importlib.import_module(f"{PACKAGE}.language.{name}") for name in ("scheduling", "threads"))
PATIENCE_SECONDS = 60


def _meet(block: Any) -> None:
    """Count the threads that come, and stay until there are as many as ``block[1]`` says."""
    SCHEDULING.added(block, 0, 1)
    while SCHEDULING.seen(block, 0) < SCHEDULING.seen(block, 1):
        SCHEDULING.pause()


meet: Any = numba.cfunc(types.void(types.CPointer(types.int64)))(_meet)


def met(start: Callable[[int, int, int], None], threads: int, wanted: int) -> int:
    """How many threads came to a call of so many, of which each stays until those that are wanted have come."""
    block = np.array([0, wanted], np.int64)
    start(meet.address, block.ctypes.data, threads)
    return int(block[0])


@pytest.fixture
def pool() -> Iterator[Any]:
    one = THREADS.Pool()
    yield one
    one.rest()


def come_true(condition: Callable[[], bool]) -> bool:
    """Whether it does, sooner or later."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < until:
        time.sleep(0.001)
    return condition()


@pytest.mark.parametrize("policy", ["active", "passive"])
def test_helpers_join_the_call_that_waits_for_them_whether_they_spin_or_sleep(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    pool = THREADS.Pool()
    for _ in range(20):
        assert met(pool.start, 2, wanted=3) == 3
    assert come_true(lambda: pool._words[THREADS.ASLEEP] == 2)  # none spins for ever
    assert met(pool.start, 2, wanted=3) == 3
    pool.rest()
    assert pool._words[THREADS.ASLEEP] == 2


def test_nobody_waits_for_a_helper_that_does_not_come(pool: Any) -> None:
    pool._helpers = 1  # as after a fork that Python was not told of
    assert met(pool.start, 1, wanted=1) == 1
    assert met(pool.start, 1, wanted=1) == 1
    pool._helpers = 0


def test_a_call_beside_another_thread_s_does_its_work_alone(pool: Any) -> None:
    block = np.array([0, 3], np.int64)
    other = threading.Thread(target=pool.start, args=(meet.address, block.ctypes.data, 1))
    other.start()
    assert come_true(lambda: block[0] == 2)  # its helper has come, and both wait for a third
    assert met(pool.start, 1, wanted=1) == 1
    block[1] = 2
    other.join(PATIENCE_SECONDS)
    assert not other.is_alive()
    assert met(pool.start, 1, wanted=2) == 2


def test_torch_s_own_threads_help_unless_threads_are_to_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert THREADS.Threads().owner == "a pool"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    team = THREADS.team_of_torch()
    if team is None:
        pytest.skip("this torch has no GNU OpenMP")
    assert met(lambda *call: team(*call, 0), 2, wanted=2) == 2


@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_no_bit_hangs_on_whose_threads_compute(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(heads_q=3, seqlen_q=300, seqlen_kv=300, mode=mode, mask="causal")
    module, operands = importlib.import_module(PACKAGE), operands_of(case)
    plan, found = module.Plan(case, operands), []
    for policy in ("active", "passive"):
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
        threads = THREADS.Threads()
        monkeypatch.setattr(ENTRY, "threads", lambda threads=threads: threads)
        q, k, v = operands.q, operands.k, operands.v
        for number in (1, 2, 3):
            results: list[torch.Tensor] = []
            plan.forward.threads = number
            out, lse = module.flash(q, k, v, case, plan)
            results += (out, lse)
            if plan.backward is not None:
                plan.backward.threads = number
                results += module.flash_backward(torch.ones_like(out), q, k, v, out, lse, case, plan)
            found.append(results)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_a_call_with_little_work_asks_for_no_helper() -> None:
    module = importlib.import_module(PACKAGE)

    def threads_of(seqlen: int, heads: int) -> int:
        case = make_case(heads_q=heads, seqlen_q=seqlen, seqlen_kv=seqlen)
        rules = module.Plan(case, operands_of(case)).rules
        threads: int = ENTRY.Call("forward", case, rules, 4).threads
        return threads

    assert threads_of(20, 4) == 1
    assert threads_of(64, 1) == 1  # one task
    assert threads_of(128, 1) == 4


def test_strides_may_differ_from_call_to_call() -> None:
    case = make_case(heads_q=2, seqlen_q=40, seqlen_kv=40)
    module, operands = importlib.import_module(PACKAGE), operands_of(case)
    plan = module.Plan(case, operands)
    contiguous = [operands.q, operands.k, operands.v]
    other = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in contiguous]
    assert other[0].stride() != contiguous[0].stride()
    first, second, third = (module.flash(*x, case, plan)[0] for x in (contiguous, other, contiguous))
    assert torch.equal(first, second)
    assert torch.equal(first, third)


FORKED = """
import importlib, os
import numpy as np
from attnbench import make_case
from tests.implementations.conftest import operands_of
module = importlib.import_module("attnbench.implementations.numba_flash")
case = make_case(heads_q=4, seqlen_q=200, seqlen_kv=200)
operands = operands_of(case)
plan = module.Plan(case, operands)
plan.forward.threads = 2
call = lambda: module.flash(operands.q, operands.k, operands.v, case, plan)[0].numpy()
before = call()  # compared by NumPy: threads of torch do not outlive a fork
child = os.fork()
if child == 0:
    os._exit(0 if all(np.array_equal(before, call()) for _ in range(20)) else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), np.array_equal(before, call()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("policy", ["active", "passive"])
def test_a_forked_child_computes_and_both_end(policy: str) -> None:
    environment = {**os.environ, "OMP_WAIT_POLICY": policy, "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "True"]), done.stderr
