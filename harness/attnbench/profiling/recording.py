"""Records calls: samples of all threads, the lines of Python that ran, and the duration of calls without either."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import resource
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.profiling.perf_events import TASKS, Sampler
from attnbench.profiling.python_lines import LineClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnbench.profiling.operators import OperatorClock
    from attnbench.profiling.perf_events import Sample

_CLOCK = time.monotonic_ns  # bound before any plug-in is imported, which might replace it
_STACK_BYTES = 16 * 1024
_LEAST_PERIOD_NS, _MOST_PERIOD_NS = 100_000, 10_000_000
_PLAIN_SHARE = 0.15
_LEAST_CALLS = 3
_MOST_CALLS = 1_000_000
_NEAR = 0.1
"""The largest distance of two near samples, as a share of a call."""
_TRACED_NS, _MOST_TRACED = 50_000_000, 5


@dataclasses.dataclass(frozen=True)
class Marker:
    """An activity of the harness, on the monotonic clock."""

    name: str
    start_ns: int
    end_ns: int


@dataclasses.dataclass(frozen=True)
class Traced:
    """Calls of which a trace is kept but no times, and the samples within them."""

    starts_ns: list[int]
    ends_ns: list[int]
    samples: list[Sample]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """Successive calls and what was recorded of them."""

    begins_ns: int
    """Start of the recording on the monotonic clock."""
    markers: list[Marker]
    """The activities of the harness, in order."""
    traced: Traced
    """Calls that were traced before the sampled ones."""

    plain_ns: list[int]
    """Durations of calls without a sampler, before and after the sampled ones."""
    starts_ns: list[int]
    ends_ns: list[int]
    """Ends of the sampled calls on the monotonic clock."""
    samples: list[Sample]
    """Samples within the sampled calls, in order of time."""
    lost: int
    period_ns: int
    with_kernel: bool
    user_ns: int
    system_ns: int
    """Processor time in the kernel while calls were sampled; ``user_ns`` is that in user code, less the sampler's."""
    kept_waiting_ns: int
    """Time in which threads could have run, but other processes did."""
    lines: LineClock
    main_thread: int

    @property
    def near_ns(self) -> float:
        """Samples closer than this belong to the same step of a call."""
        return min(2 * self.period_ns, _NEAR * self.called_ns / len(self.starts_ns))

    @property
    def called_ns(self) -> int:
        """Total time of the sampled calls."""
        return sum(self.ends_ns) - sum(self.starts_ns)


def record(
    run: Callable[[], object],
    set_up: Callable[[], object],
    files: frozenset[str],
    *,
    threads: int,
    wall_ns: int,
    samples: int,
    operators: OperatorClock | None = None,
) -> Recording:
    """Make a few traced calls, then sample calls for a while.

    At least three calls are sampled over ``wall_ns``, with about ``samples`` samples in all. Lines of ``files`` are
    recorded.

    Raises:
        SamplingRefusedError: if the system refuses.
    """
    period_ns = min(max(wall_ns * threads // samples, _LEAST_PERIOD_NS), _MOST_PERIOD_NS)
    begins, markers = _CLOCK(), _Markers()
    with markers.around("calls without a sampler"):
        plain, _, _ = _calls(run, set_up, int(_PLAIN_SHARE * wall_ns))
    lines = LineClock(files)
    with Sampler(period_ns, _STACK_BYTES) as sampler:

        def caught_up() -> None:
            sampler.catch_up()
            set_up()

        marked = operators.marked(run) if operators else run
        with operators or contextlib.nullcontext(), lines, markers.around("traced calls"):
            _, traced_starts, traced_ends = _calls(marked, set_up, _TRACED_NS, least=1, most=_MOST_TRACED)
        used, own, kept = resource.getrusage(resource.RUSAGE_SELF), sampler.own_ns, _kept_waiting_ns(sampler)
        with lines, markers.around("sampled calls"):
            _, starts, ends = _calls(run, caught_up, wall_ns)
        then, own = resource.getrusage(resource.RUSAGE_SELF), sampler.own_ns - own
        kept = _kept_waiting_ns(sampler) - kept
    with markers.around("calls without a sampler"):
        again, _, _ = _calls(run, set_up, int(_PLAIN_SHARE * wall_ns))
    return Recording(
        begins_ns=begins,
        markers=markers.found,
        traced=Traced(traced_starts, traced_ends, _within(sampler.samples, traced_starts, traced_ends)),
        plain_ns=plain + again,
        starts_ns=starts,
        ends_ns=ends,
        samples=_within(sampler.samples, starts, ends),
        lost=sampler.lost,
        period_ns=period_ns,
        with_kernel=sampler.with_kernel,
        user_ns=max(0, int((then.ru_utime - used.ru_utime) * 1e9) - own),
        system_ns=int((then.ru_stime - used.ru_stime) * 1e9),
        kept_waiting_ns=max(0, kept),
        lines=lines,
        main_thread=threading.get_native_id(),
    )


class _Markers:
    """Collects markers."""

    def __init__(self) -> None:
        self.found: list[Marker] = []

    @contextlib.contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Mark the time spent within the context."""
        start = _CLOCK()
        yield
        self.found.append(Marker(name, start, _CLOCK()))


def calls_for(run: Callable[[], object], set_up: Callable[[], object], wall_ns: int) -> int:
    """Make calls for ``wall_ns``, at least three, and return their number."""
    return len(_calls(run, set_up, wall_ns)[0])


def _kept_waiting_ns(sampler: Sampler) -> int:
    """Return the threads' time on a run queue (Documentation/scheduler/sched-stats); 0 if it is not reported."""
    total = 0
    for task in TASKS.iterdir():
        if int(task.name) != sampler.own_thread:
            with contextlib.suppress(OSError, ValueError, IndexError):
                total += int((task / "schedstat").read_text().split()[1])
    return total


def _calls(
    run: Callable[[], object],
    set_up: Callable[[], object],
    wall_ns: int,
    *,
    least: int = _LEAST_CALLS,
    most: int = _MOST_CALLS,
) -> tuple[list[int], list[int], list[int]]:
    """Make calls, and return their durations, starts and ends."""
    clock = _CLOCK
    starts: list[int] = []
    ends: list[int] = []
    began = clock()
    while (clock() - began < wall_ns and len(starts) < most) or len(starts) < least:
        set_up()
        start = clock()
        result = run()
        ends.append(clock())
        starts.append(start)
        del result
    return [end - start for start, end in zip(starts, ends, strict=True)], starts, ends


def _within(samples: list[Sample], starts: list[int], ends: list[int]) -> list[Sample]:
    """Return the samples within calls, in order of time."""
    kept, call = [], 0
    for sample in sorted(samples, key=lambda one: one.time_ns):
        while call < len(ends) and ends[call] < sample.time_ns:
            call += 1
        if call < len(starts) and starts[call] <= sample.time_ns:
            kept.append(sample)
    return kept


def shown_path(file: str) -> str:
    """Return a source's path for display: relative to the current folder or to the installed package, if within."""
    path = Path(file)
    roots = [Path.cwd()]
    package = sys.modules.get("attnbench.implementations")
    roots += [Path(place).parent for place in getattr(package, "__path__", ())]
    below = next((root for root in roots if path.is_relative_to(root)), None)
    return file if below is None else path.relative_to(below).as_posix()


def sources_of(call: Callable[..., Any]) -> frozenset[str]:
    """Return the Python source files of an implementation: its module's and, for a package, those of its submodules."""
    function: Any = call
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__code__"):  # a callable instance
        function = type(function).__call__
    name = getattr(function, "__module__", None) or type(function).__module__
    modules = [module for key, module in list(sys.modules.items()) if key == name or key.startswith(f"{name}.")]
    files = {getattr(module, "__file__", None) for module in modules}
    code = getattr(function, "__code__", None)
    return frozenset(file for file in (*files, code.co_filename if code else None) if file)
