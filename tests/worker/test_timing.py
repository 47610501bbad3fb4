"""Warm-up and samples with a scripted clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from attnbench.worker.timing import calls_per_sample, is_quicker_again, resume, sample, warm_up

MS = 1_000_000


class FakeClock:
    """A clock that advances only in calls, by scripted durations; the last one repeats."""

    def __init__(self, durations_ns: Iterable[int]) -> None:
        self.now = 0
        self.calls = 0
        self._durations: Iterator[int] = iter(durations_ns)
        self._last = 0

    def __call__(self) -> int:
        return self.now

    def call(self) -> int:
        self.calls += 1
        self._last = next(self._durations, self._last)
        self.now += self._last
        return self.calls


def test_warm_up_takes_at_least_100_ms() -> None:
    clock = FakeClock([MS])
    assert warm_up(clock.call, clock).calls == 100


def test_warm_up_goes_on_until_two_windows_agree() -> None:
    # Each window of five is 10 % faster than the one before, until it settles.
    falling = [int(40 * MS * 0.9 ** (n // 5)) for n in range(20)]
    clock = FakeClock(falling)
    warmed = warm_up(clock.call, clock)
    assert warmed.converged
    assert warmed.calls > 20
    assert warmed.call_ns == falling[-1]


def test_warm_up_gives_up_after_2_s_and_says_so() -> None:
    clock = FakeClock(3 * MS + n * MS for n in range(10_000))  # slower and slower
    warmed = warm_up(clock.call, clock)
    assert not warmed.converged
    assert clock.now < 2_100 * MS


def test_a_call_that_takes_minutes_is_warmed_up_once() -> None:
    clock = FakeClock([120_000 * MS])
    assert warm_up(clock.call, clock).calls == 1


def test_a_short_sampling_has_a_short_warm_up() -> None:
    clock = FakeClock(3 * MS + n * MS for n in range(10_000))
    assert not warm_up(clock.call, clock, max_ns=400 * MS).converged
    assert 400 * MS <= clock.now < 450 * MS


@pytest.mark.parametrize(
    ("durations_ns", "took_ms"),
    [
        ([MS], 15),  # warm from the start
        ([10 * MS, 8 * MS, 5 * MS], 33),  # cold, then warm: three as before
        ([5 * MS, 5 * MS, 10 * MS, 5 * MS], 35),  # three in a row
        ([10 * MS], 60),  # never again
        ([int(5.4 * MS)], 16.2),
    ],
)
def test_a_visit_begins_once_calls_are_as_quick_as_they_were(durations_ns: list[int], took_ms: float) -> None:
    clock = FakeClock(durations_ns)
    resume(clock.call, clock, warm_ns=5 * MS)
    assert clock.now == took_ms * MS


def test_warm_up_does_not_time_the_set_up() -> None:
    clock = FakeClock([20 * MS])

    def set_up() -> None:
        clock.now += 1_000 * MS

    assert warm_up(clock.call, clock, set_up=set_up).calls == 10


@pytest.mark.parametrize(
    ("call_ns", "calls"), [(10 * MS, 1), (MS, 1), (MS // 2, 2), (300_000, 4), (1_000, 1_000), (0, 1_000_000)]
)
def test_a_sample_lasts_a_millisecond(call_ns: int, calls: int) -> None:
    assert calls_per_sample(call_ns, clock_resolution_ns=1) == calls


def test_a_coarse_clock_needs_longer_samples() -> None:
    assert calls_per_sample(MS, clock_resolution_ns=10_000) == 10


class Remembers:
    """A call that takes long on new inputs, and less on those that it has seen."""

    def __init__(self, *, first_ns: int, again_ns: int) -> None:
        self.now = 0
        self._first_ns, self._again_ns = first_ns, again_ns
        self._fresh = True

    def __call__(self) -> None:
        self.now += self._first_ns if self._fresh else self._again_ns
        self._fresh = False

    def freshen(self) -> None:
        self._fresh = True


@pytest.mark.parametrize(
    ("first_ns", "again_ns", "is_so"),
    [
        (400_000, 3_000, True),
        (90_000, 20_000, True),
        (90_000, 62_000, False),
        (20_000, 8_000, False),
        (9_000, 0, False),
    ],
)
def test_a_result_that_is_remembered_shows_in_the_second_call(first_ns: int, again_ns: int, *, is_so: bool) -> None:
    call = Remembers(first_ns=first_ns, again_ns=again_ns)
    assert is_quicker_again(call, lambda: call.now, call.freshen) is is_so


ENOUGH_NS = 10_000 * MS


def test_so_many_samples_are_taken_and_none_is_dropped() -> None:
    durations = [MS, 50 * MS, MS, 2 * MS]
    clock = FakeClock(durations)
    samples, result = sample(clock.call, clock, max_samples=4, max_ns=ENOUGH_NS)
    assert samples == durations
    assert result == 4, "the result is that of the last timed call"


def test_sampling_stops_when_its_time_is_over() -> None:
    clock = FakeClock([20 * MS])
    samples, _ = sample(clock.call, clock, max_samples=100, max_ns=50 * MS)
    assert samples == [20 * MS] * 3


def test_what_is_done_between_calls_has_a_limit_too() -> None:
    clock = FakeClock([MS])

    def set_up() -> None:
        clock.now += 29 * MS

    samples, _ = sample(clock.call, clock, max_samples=100, max_ns=50 * MS, set_up=set_up)
    assert samples == [MS] * 5


def test_a_call_that_takes_minutes_still_gets_one_sample() -> None:
    clock = FakeClock([60_000 * MS])
    assert sample(clock.call, clock, max_samples=100, max_ns=50 * MS)[0] == [60_000 * MS]


def test_samples_are_per_call() -> None:
    clock = FakeClock([MS])
    samples, result = sample(clock.call, clock, max_samples=10, max_ns=ENOUGH_NS, calls=8)
    assert samples == [MS] * 10
    assert result == 80


def test_the_set_up_before_each_sample_is_not_timed() -> None:
    clock = FakeClock([5 * MS])
    set_ups = []

    def set_up() -> None:
        set_ups.append(clock.now)
        clock.now += 77 * MS

    samples, _ = sample(clock.call, clock, max_samples=10, max_ns=ENOUGH_NS, set_up=set_up)
    assert samples == [5 * MS] * 10
    assert len(set_ups) == 10


def test_the_previous_output_is_freed_before_the_next_sample() -> None:
    alive: list[int] = []

    class Output:
        def __init__(self) -> None:
            alive.append(id(self))

        def __del__(self) -> None:
            alive.remove(id(self))

    clock = FakeClock([5 * MS])
    most: list[int] = []

    def call() -> Output:
        most.append(len(alive))
        clock.call()
        return Output()

    typed: Callable[[], object] = call
    sample(typed, clock, max_samples=10, max_ns=ENOUGH_NS)
    assert max(most) == 0
