"""Counters are read before and after calls, and summed over threads; if there are none, the reason is given."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.profiling import counters
from attnbench.profiling.counters import NoCountersError, count

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, int], int]:
    """Make two threads, on each of which event e starts at 1000 + e and grows by ten with each reading."""
    tasks = tmp_path / "task"
    for thread in ("7", "8"):
        (tasks / thread).mkdir(parents=True)
    monkeypatch.setattr(counters, "TASKS", tasks)

    def opener(attribute: Any, thread: int) -> int:
        kind, _, event = struct.unpack_from("<IIQ", bytes(attribute))
        assert kind == 0
        assert thread in (7, 8)
        readings = [1000 + event, 1000 + event + 10 * (event + 1)]
        read, write = os.pipe()
        os.write(write, struct.pack("<QQ", *readings))
        os.close(write)
        return read

    return opener


def test_what_threads_count_is_added_up_and_divided_by_the_calls(machine: Callable[[Any, int], int]) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted
    found = count(lambda: 5, machine)
    assert (found.cycles, found.instructions, found.cache_misses) == (2 * 10 / 5, 2 * 20 / 5, 2 * 40 / 5)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - counted


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EOPNOTSUPP])
def test_a_machine_without_counters_says_so(number: int) -> None:
    def opener(attribute: Any, thread: int) -> int:
        raise OSError(number, os.strerror(number))

    with pytest.raises(NoCountersError, match="has no hardware counters, or hides them"):
        count(lambda: pytest.fail("no call is needed"), opener)


def test_counters_that_stand_still_are_none(machine: Callable[[Any, int], int]) -> None:
    def still(attribute: Any, thread: int) -> int:
        read, write = os.pipe()
        os.write(write, struct.pack("<QQ", 5, 5))
        os.close(write)
        return read

    with pytest.raises(NoCountersError, match="stand still"):
        count(lambda: 1, still)
