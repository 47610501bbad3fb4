"""Pieces of a profile. Times are in nanoseconds of one call: those of all threads together, divided by their number."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from attnbench.profiling.phases import Phase

Nanoseconds = Annotated[float, Field(ge=0, le=1e18)]
"""Up to thirty years: sums and ratios of a few are numbers."""
Moment = Annotated[int, Field(ge=0, le=10**18)]
"""Nanoseconds since a beginning."""
Bytes = Annotated[int, Field(ge=-(2**60), le=2**60)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_MOST = 20_000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LineTime(_Part):
    """The time of a line of a source."""

    file: str
    line: int = Field(ge=1, le=10**9)
    function: str
    text: str
    """The line itself; empty where the source is not at hand."""
    phase: Phase
    """The phase of most of its samples."""
    ns: Nanoseconds
    """Sampled on this line."""
    below_ns: Nanoseconds
    """Sampled here or in what it calls."""


class InstructionTime(_Part):
    """The time of an instruction of compiled code."""

    function: str
    line: int = Field(ge=0, le=10**9)
    """0 where the compiler names none."""
    address: str
    text: str
    ns: Nanoseconds


class FunctionTime(_Part):
    """The time of a function, what it calls not counted."""

    module: str
    function: str
    phase: Phase
    why: str
    """Told by: ``line``, ``function``, ``library``, ``call site``, ``instructions``, ...; empty: by nothing."""
    ns: Nanoseconds


class Stack(_Part):
    """Samples with the same callers."""

    thread: Literal["main thread", "other threads"]
    phase: Phase
    frames: tuple[str, ...]
    """Outermost first."""
    ns: Nanoseconds


class Span(_Part):
    """A piece of the time line."""

    lane: str
    """One of :data:`attnbench.profiling.timeline.LANES`, or a thread."""
    name: str
    start_ns: Moment
    """Since the cell's worker was started."""
    end_ns: Moment


LINE_BYTES = 64
"""Bytes of a cache line."""


class Counted(_Part):
    """Hardware counters of one call, all threads together, user code only."""

    cycles: Annotated[float, Field(gt=0, le=1e18)]
    instructions: Annotated[float, Field(ge=0, le=1e18)]
    cache_misses: Annotated[float, Field(ge=0, le=1e18)]
    """Misses of the last-level cache: each moves a line from memory."""


class MemoryPoint(_Part):
    """The footprint at a moment of a call, above what it was before."""

    at_ns: Moment
    bytes: Bytes
    line: str
    """``file:line`` of Python that was running; empty where none was."""


class MemoryBlock(_Part):
    """Blocks that one stack allocated, alive at the peak."""

    bytes: Annotated[int, Field(ge=0, le=2**60)]
    """Asked for, by all of them together."""
    count: int = Field(ge=1, le=2**60)
    stack: tuple[str, ...]
    """``function file:line`` of Python, innermost first; empty where a library's own thread allocated."""


class BlocksAtPeak(_Part):
    """The memory that a call holds at its peak."""

    bytes: Annotated[int, Field(ge=0, le=2**60)]
    """Asked for, in all."""
    largest: tuple[MemoryBlock, ...]


class MemoryOfCall(_Part):
    """How the footprint of one call rose and fell."""

    method: str
    points: tuple[MemoryPoint, ...]
    peak_bytes: Bytes
    exact_peak_bytes: Bytes | None
    """The run's ``memory_peak_bytes``, from a process without a profiler."""
    note: str | None = None
    """Why the two differ by more than the method's resolution."""
    began_ns: Moment | None = None
    """When the call began, on the cell's time line."""
    blocks: BlocksAtPeak | None = None
    blocks_note: str | None = None
    """Why there are none, or how they differ from the exact peak."""


class Sampled(_Part):
    """A worker's account of the calls that it sampled, as a file keeps it."""

    calls: Count = 0
    samples: Count = 0
    lost: Count = 0
    """Samples that the system dropped."""
    period_ns: Count = 0
    has_kernel: bool = True
    """Whether time in the kernel was sampled; else it is counted by the system's clocks, as ``memory``."""
    has_lines: bool = False
    """Whether compiled code was compiled with lines."""
    functions: tuple[FunctionTime, ...] = Field(default=(), max_length=_MOST)
    lines: tuple[LineTime, ...] = Field(default=(), max_length=_MOST)
    instructions: tuple[InstructionTime, ...] = Field(default=(), max_length=_MOST)
    """Only where they were asked for."""
    stacks: tuple[Stack, ...] = Field(default=(), max_length=_MOST)
    timeline: tuple[Span, ...] = Field(default=(), max_length=_MOST)
    no_operators: str | None = None
    """Why the time line has no operators of torch's."""
    counted: Counted | None = None
    """Counts of the hardware counters, if this machine has any."""
    not_counted: str | None = None
    """Why it has none."""
    memory: MemoryOfCall | None = None


class KernelOfCall(_Part):
    """A kernel or copy on a GPU."""

    name: str
    launches: Annotated[float, Field(gt=0, le=1e9)]
    """For each call."""
    ns: Nanoseconds
    """Time of all its launches in one call."""


class ScopeOfCall(_Part):
    """A scope of Triton's Proton, or a kernel in one."""

    path: tuple[str, ...]
    """Outermost first."""
    launches: Annotated[float, Field(ge=0, le=1e9)]
    """For each call."""
    ns: Nanoseconds
    """Time on the device of all that is in it, in one call."""


class KernelsOfCall(_Part):
    """The kernels and copies of one call on a GPU: the mean of several calls."""

    calls: int = Field(ge=1, le=10**9)
    busy_ns: Nanoseconds
    gaps_ns: Nanoseconds
    """Between one kernel's end and the next one's beginning, with nothing else running."""
    first_launch_ns: Nanoseconds
    """From the first launch to the beginning of what it launches."""
    kernels: tuple[KernelOfCall, ...]
    """Longest first."""
    scopes: tuple[ScopeOfCall, ...] = ()
    """By Triton's Proton; a scope comes before what is in it."""
    no_scopes: str | None = None
    """Why Proton gave none, where Triton runs."""
