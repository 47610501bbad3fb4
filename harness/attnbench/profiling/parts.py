"""The parts of a profile. Times are in nanoseconds per call: the sum over all threads, divided by their number."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from attnbench.profiling.phases import Phase

Nanoseconds = Annotated[float, Field(ge=0, le=1e18)]
"""At most thirty years, so that sums and ratios of a few stay finite."""
Moment = Annotated[int, Field(ge=0, le=10**18)]
"""Nanoseconds since some start."""
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
    """Text of the line; empty if the source is not available."""
    phase: Phase
    """The phase of most of its samples."""
    ns: Nanoseconds
    """Time sampled on this line."""
    below_ns: Nanoseconds
    """Time sampled on this line or in its callees."""


class InstructionTime(_Part):
    """The time of an instruction of compiled code."""

    function: str
    line: int = Field(ge=0, le=10**9)
    """0 if the compiler gives none."""
    address: str
    text: str
    ns: Nanoseconds


class FunctionTime(_Part):
    """The time of a function without its callees."""

    module: str
    function: str
    phase: Phase
    why: str
    """Rule that decided the phase: ``line``, ``function``, ``library``, ``call site``, ...; empty if none did."""
    ns: Nanoseconds


class Stack(_Part):
    """Samples with the same callers."""

    thread: Literal["main thread", "other threads"]
    phase: Phase
    frames: tuple[str, ...]
    """Callers, outermost first."""
    ns: Nanoseconds


class Span(_Part):
    """A span of the time line."""

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
    """The footprint at a moment of a call, above the footprint before it."""

    at_ns: Moment
    bytes: Bytes
    line: str
    """``file:line`` of the Python code that was running; empty if none was."""


class MemoryBlock(_Part):
    """Blocks allocated by one call stack that are alive at the peak."""

    bytes: Annotated[int, Field(ge=0, le=2**60)]
    """Total requested size of these blocks."""
    count: int = Field(ge=1, le=2**60)
    stack: tuple[str, ...]
    """``function file:line`` of Python, innermost first; empty if a library's own thread allocated."""


class BlocksAtPeak(_Part):
    """The memory that a call holds at its peak."""

    bytes: Annotated[int, Field(ge=0, le=2**60)]
    """Total requested size."""
    largest: tuple[MemoryBlock, ...]


class MemoryOfCall(_Part):
    """The footprint of one call over time."""

    method: str
    points: tuple[MemoryPoint, ...]
    peak_bytes: Bytes
    exact_peak_bytes: Bytes | None
    """The run's ``memory_peak_bytes``, from a process without a profiler."""
    note: str | None = None
    """Why the two differ by more than the method's resolution."""
    began_ns: Moment | None = None
    """Start of the call on the cell's time line."""
    blocks: BlocksAtPeak | None = None
    blocks_note: str | None = None
    """Why there are no blocks, or how they differ from the exact peak."""


class Sampled(_Part):
    """The results of a worker's sampled calls, as stored in a file."""

    calls: Count = 0
    samples: Count = 0
    lost: Count = 0
    """Number of samples that the system dropped."""
    period_ns: Count = 0
    has_kernel: bool = True
    """Whether time in the kernel was sampled; else it is taken from the system's clocks, and counts as ``memory``."""
    has_lines: bool = False
    """Whether compiled code has line information."""
    functions: tuple[FunctionTime, ...] = Field(default=(), max_length=_MOST)
    lines: tuple[LineTime, ...] = Field(default=(), max_length=_MOST)
    instructions: tuple[InstructionTime, ...] = Field(default=(), max_length=_MOST)
    """Present only if requested."""
    stacks: tuple[Stack, ...] = Field(default=(), max_length=_MOST)
    timeline: tuple[Span, ...] = Field(default=(), max_length=_MOST)
    no_operators: str | None = None
    """Why the time line has no torch operators."""
    counted: Counted | None = None
    """Readings of the hardware counters, if this machine has any."""
    not_counted: str | None = None
    """Why there are no readings."""
    memory: MemoryOfCall | None = None


class KernelOfCall(_Part):
    """A kernel or copy on a GPU."""

    name: str
    launches: Annotated[float, Field(gt=0, le=1e9)]
    """Mean number of launches per call."""
    ns: Nanoseconds
    """Total time of its launches in one call."""


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
    """Time between the end of one kernel and the start of the next, with nothing else running."""
    first_launch_ns: Nanoseconds
    """Time from the first launch to the start of the launched kernel."""
    kernels: tuple[KernelOfCall, ...]
    """Longest first."""
    scopes: tuple[ScopeOfCall, ...] = ()
    """By Triton's Proton; a scope comes before what is in it."""
    no_scopes: str | None = None
    """Why Proton gave none, where Triton runs."""
