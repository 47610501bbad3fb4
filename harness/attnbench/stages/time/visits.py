"""Time: a cell is visited several times, in turns with others. Each visit takes samples, whose outputs must agree."""

from __future__ import annotations

import dataclasses
import math
import os
from time import perf_counter_ns
from typing import TYPE_CHECKING

from attnbench.stages.agreement import agree
from attnbench.stages.stage import CellRun, Stage
from attnbench.stages.time.heartbeat import keep_heartbeat, listen
from attnbench.stages.time.sampled_rows import judge_rows
from attnbench.stages.time.samples import (
    EndVisits,
    PassSamples,
    Resume,
    TakeSamples,
    Timed,
    Visit,
    Visited,
    WarmUp,
)
from attnbench.units import duration
from attnbench.worker.timing import MAX_WARMUP_NS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

MIN_VISITS, MAX_VISITS = 3, 10
MIN_VISIT_NS = 40_000_000
"""The shortest visit, time permitting: a scheduler needs some milliseconds to spread threads over cores."""
_LONG_CALL_NS = 100_000_000
"""Calls this long are hardly affected by the caches' content before them."""
_WITHOUT_END_NS = 2**62
_PASSED = 3
_PASSES = 3
_MOST_LONGER = 1.5
_SLACK_NS = 1e6
"""Allowance for the messages of a visit."""
_ROW_NS = 1e5
"""Allowance for keeping a row of a sample, which :class:`PassSamples` does not do."""
_LEAST_TRIES, _MOST_TRIES = 8, 64
_TRYING_NS = 500_000_000
"""A doubtful visit is tried at least this long: next to other work most tries of a short visit are disturbed."""


def run(cell: CellRun) -> Iterator[None]:
    """Take samples. Their rows and the last output must agree, and the samples must be usable as measurements."""
    forged = None
    if cell.device == "cpu":
        answer, forged = yield from _in_visits(cell)
    else:
        unknown = cell.unknown
        asked = TakeSamples(limits=cell.limits.sampling, repetition=unknown.repetition, moved=unknown.moved)
        answer = cell.ask(asked)
    samples = answer.time_samples_ns or ()
    cell.spent.warmup += answer.warmup_ns
    cell.spent.samples += sum(samples) * (answer.calls_per_sample or 1)
    cell.keep(answer)
    judge_rows(cell, answer.rows, len(samples), answer.rows_dtype, answer.frames)
    if (answer.inputs.repetition, answer.inputs.moved) != (cell.unknown.repetition, cell.unknown.moved):
        cell.end("invalid", "the last timed sample had other inputs than it was given")
    agree(cell, inputs=answer.inputs)
    if unusable := forged or answer.unusable:
        cell.end("invalid", unusable)


def _in_visits(cell: CellRun) -> Generator[None, None, tuple[Timed, str | None]]:
    """Take samples in visits, between which other cells may run. Return them, and the reason if they cannot be true."""
    limits = cell.limits
    yield from cell.pause()
    cell.ask(
        WarmUp(
            cache=limits.cache,
            repetition=cell.unknown.repetition,
            min_ns=limits.warmup_ns,
            max_calls=limits.warmup_calls,
            max_ns=max(limits.warmup_ns, min(MAX_WARMUP_NS, 2 * limits.sampling.sampling_ns)),
        )
    )
    watch = Stopwatch(cell)
    call_ns = 0.0
    for visit in _visits(cell, watch):
        yield from cell.pause()
        if call_ns < _LONG_CALL_NS:
            cell.ask(Resume())
        call_ns = watch.time(visit).median_ns
        if watch.forged:
            break
        listen(cell, len(watch.visits))
    answer = watch.checked(cell.ask(EndVisits(moved=cell.unknown.moved)))
    yield from cell.wait_until_all_are_sampled()
    keep_heartbeat(cell)
    return answer, watch.forged


def _visits(cell: CellRun, watch: Stopwatch) -> Iterator[Visit]:
    """Yield visits between which samples and time are divided evenly; the last sample is requested separately.

    Their number does not depend on the scatter of the samples: stopping once an interval is narrow biases intervals
    towards being too narrow.
    """
    limits = cell.limits.sampling
    count = cell.limits.visits or min(MAX_VISITS, max(MIN_VISITS, limits.sampling_ns // MIN_VISIT_NS))
    samples = max(1, limits.max_samples - 1)
    for number in range(count):
        if watch.called_ns >= limits.sampling_ns and watch.samples >= min(3, limits.min_samples):
            return
        share = samples * (number + 1) // count - samples * number // count
        if share:
            yield Visit(max_samples=share, max_ns=limits.sampling_ns // count)


class Stopwatch:
    """The runner's clock, which checks the worker's clock, as a plug-in can tamper with that one.

    The duration of a visit seen here, less the overhead of as many samples without calls, cannot be much more than the
    worker's time of the calls. Other work on the machine only lengthens both. So a doubtful visit is repeated, and
    the shortest try is compared with the shortest overhead measured right next to the tries.
    """

    def __init__(self, cell: CellRun) -> None:
        self._cell = cell
        self._all: list[_Watched] = []
        self.forged: str | None = None
        """Why the worker's times cannot be true; ``None`` if they can."""
        self._passed(_PASSED)  # a warm-up: the first ones touch new memory
        self._passed_ns = min(self._passed(_PASSED) / _PASSED for _ in range(_PASSES))

    @property
    def visits(self) -> list[Visited]:
        """The worker's result of each visit that counts."""
        return [one.visited for one in self._all if one.counts]

    @property
    def samples(self) -> int:
        """Number of samples in the visits that count."""
        return sum(visited.samples for visited in self.visits)

    @property
    def called_ns(self) -> float:
        """Total time of the calls of these visits, by the worker's clock."""
        return math.fsum(visited.called_ns for visited in self.visits)

    def time(self, visit: Visit) -> Visited:
        """Make a visit and time it; repeat it while it is doubtful."""
        tries = [self._watched(visit)]
        samples = tries[0].visited.samples
        again = visit.model_copy(update={"max_samples": samples, "max_ns": _WITHOUT_END_NS})
        passes: list[float] = []  # measured next to the tries, as the load may have changed
        began = perf_counter_ns()
        while min(one.doubtful_ns for one in tries) > min(passes, default=self._passed_ns * samples) * _MOST_LONGER:
            is_long = len(tries) >= _LEAST_TRIES and perf_counter_ns() - began >= _TRYING_NS
            if is_long or len(tries) == _MOST_TRIES:
                said = duration(math.fsum(one.visited.called_ns for one in tries))
                seen = duration(math.fsum(max(0.0, one.took_ns - min(passes)) for one in tries))
                self.forged = f"by the worker's clock its samples took {said}, by the runner's {seen}{self._load()}"
                break
            while len(passes) < _PASSES + len(tries) - 1:
                passes.append(self._passed(samples))
            tries.append(self._watched(again))
        best = min(range(len(tries)), key=lambda place: tries[place].doubtful_ns)
        tries[best] = dataclasses.replace(tries[best], counts=True)
        self._all += tries
        return tries[best].visited

    def checked(self, answer: Timed) -> Timed:
        """Return the answer without doubtful visits; end the cell if a visit's samples no longer add up."""
        samples, calls = list(answer.time_samples_ns or ()), answer.calls_per_sample or 1
        kept: list[tuple[float, ...]] = []
        for one in self._all:
            count = one.visited.samples
            its, samples = samples[:count], samples[count:]
            called_ns = math.fsum(its) * calls
            if not math.isclose(called_ns, one.visited.called_ns, rel_tol=1e-9):
                now, then = duration(called_ns), duration(one.visited.called_ns)
                self._cell.end("invalid", f"samples of a visit add up to {now}, and to {then} when they were taken")
            if one.counts:
                kept.append(tuple(its))
        kept[-1] += tuple(samples)  # the last sample, whose result is judged
        return answer.model_copy(
            update={
                "time_samples_ns": tuple(sample for visit in kept for sample in visit),
                "time_visits": tuple(len(visit) for visit in kept),
                "time_visits_left_out": len(self._all) - len(kept),
            }
        )

    def _load(self) -> str:
        """Return a clause about the machine's load if it exceeds the processors, else nothing."""
        if not self._cell.company.is_here:
            return ""
        load, processors = os.getloadavg()[0], os.cpu_count() or 1
        if load <= processors:
            return ""
        return f"; other work may be the cause: the load is {load:.1f} on {processors} processors"

    def _watched(self, visit: Visit) -> _Watched:
        began = perf_counter_ns()
        visited = self._cell.ask(visit)
        return _Watched(visited, perf_counter_ns() - began)

    def _passed(self, samples: int) -> float:
        began = perf_counter_ns()
        self._cell.ask(PassSamples(samples=samples))
        return perf_counter_ns() - began


@dataclasses.dataclass(frozen=True)
class _Watched:
    """A visit timed by the runner's clock."""

    visited: Visited
    took_ns: float
    counts: bool = False

    @property
    def doubtful_ns(self) -> float:
        """Time of the visit beyond what its calls explain; the overhead of samples may account for it."""
        explained_ns = _MOST_LONGER * self.visited.called_ns + _SLACK_NS + _ROW_NS * self.visited.samples
        return self.took_ns - explained_ns


STAGE = Stage(
    name="time",
    requests=(TakeSamples, WarmUp, Resume, Visit, PassSamples, EndVisits),
    run=run,
    is_wanted=lambda cell: cell.limits.timed,
)
