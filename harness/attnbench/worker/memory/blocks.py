"""Memory allocated at the peak of one call, by stack; memray hooks the allocators of the C library."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.profiling.parts import BlocksAtPeak, MemoryBlock
from attnbench.profiling.recording import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MOST_BLOCKS, _MOST_FRAMES = 12, 12
_HARNESS = str(Path(__file__).parents[1])


class NoBlocksError(RuntimeError):
    """Blocks are unknown; the message is a sentence that says why."""


def blocks_at_peak(call: Callable[[], object], set_up: Callable[[], object]) -> BlocksAtPeak:
    """Make a call, and return the memory that it holds at its peak.

    Raises:
        NoBlocksError: memray is not installed, or it fails.
    """
    try:
        import memray
    except ImportError as error:
        raise NoBlocksError("memray is not installed (pip install 'attnbench[profile]')") from error
    set_up()
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        path = Path(folder) / "allocations"
        try:
            with memray.Tracker(path):
                result = call()
            del result
            with memray.FileReader(path) as reader:
                found = [
                    MemoryBlock(bytes=one.size, count=one.n_allocations, stack=_frames(one.stack_trace()))
                    for one in reader.get_high_watermark_allocation_records(merge_threads=True)
                ]
        except (OSError, RuntimeError) as error:
            raise NoBlocksError(f"memray: {error}") from error
    found.sort(key=lambda one: -one.bytes)
    return BlocksAtPeak(bytes=sum(one.bytes for one in found), largest=tuple(found[:_MOST_BLOCKS]))


def _frames(stack: Iterable[tuple[str, str, int]]) -> tuple[str, ...]:
    """Return the frames, innermost first, up to the harness that makes the call."""
    frames = []
    for function, file, line in stack:
        if file.startswith(_HARNESS):
            break
        frames.append(f"{function} {shown_path(file)}:{line}")
    return tuple(frames[:_MOST_FRAMES])
