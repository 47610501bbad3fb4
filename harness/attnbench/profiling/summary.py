"""Summarises a recording by functions, lines, instructions and stacks."""

from __future__ import annotations

import collections
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.profiling.code.addresses import PYTHON
from attnbench.profiling.parts import FunctionTime, InstructionTime, LineTime, Stack
from attnbench.profiling.recording import shown_path
from attnbench.untrusted.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.profiling.attribution import Attributed
    from attnbench.profiling.code.addresses import AddressSpace, Place
    from attnbench.profiling.phases import Phase
    from attnbench.profiling.recording import Recording

_MOST_FUNCTIONS, _MOST_LINES, _MOST_STACKS = 100, 200, 200
_MOST_INSTRUCTIONS, _LEAST_OF_INSTRUCTION = 400, 0.0005
_MOST_FRAMES = 32
_FOREIGN = (f"{os.sep}site-packages{os.sep}", f"{os.sep}lib{os.sep}python")
_LARGEST_SOURCE = 2**22


@dataclasses.dataclass(frozen=True)
class Scale:
    """Time per sample, and times that are not sampled, in nanoseconds per call, divided by the threads."""

    sample_ns: float
    """Time that one sample stands for."""
    waiting_ns: float
    """Time in which threads were not runnable."""
    kept_waiting_ns: float
    """Time in which threads could have run, but other processes did."""
    system_ns: float
    """Time in the kernel, if it cannot be sampled."""


def scale_of(recording: Recording, threads: int) -> Scale:
    """Divide the processor time among the samples; in the rest of the calls' time, threads did not run."""
    whole = recording.called_ns / len(recording.starts_ns)
    shared = len(recording.starts_ns) * threads
    busy = recording.user_ns + recording.system_ns
    fits = min(1.0, whole * shared / busy) if busy else 1.0  # busy time includes that between calls
    sampled = (busy if recording.with_kernel else recording.user_ns) * fits / shared
    system = 0.0 if recording.with_kernel else recording.system_ns * fits / shared
    count = len(recording.samples)
    idle = max(0.0, whole - busy * fits / shared)
    kept = min(idle, recording.kept_waiting_ns / shared)
    return Scale(sampled / count if count else 0.0, idle - kept, kept, system)


def functions(found: Sequence[Attributed], scale: Scale) -> tuple[FunctionTime, ...]:
    """Return the sampled functions, longest first."""
    counted = collections.Counter((one.frames[0].module, one.frames[0].function, one.phase, one.why) for one in found)
    return tuple(
        FunctionTime(module=module, function=function, phase=phase, why=why, ns=count * scale.sample_ns)
        for (module, function, phase, why), count in counted.most_common(_MOST_FUNCTIONS)
    )


def lines(found: Sequence[Attributed], scale: Scale, files: frozenset[str]) -> tuple[LineTime, ...]:
    """Return the lines of the user's and the implementation's sources, longest first."""
    own: collections.Counter[tuple[str, int]] = collections.Counter()
    below: collections.Counter[tuple[str, int]] = collections.Counter()
    phases: dict[tuple[str, int], collections.Counter[Phase]] = {}
    names: dict[tuple[str, int], str] = {}
    for one in found:
        places = [frame for frame in one.frames if frame.line and _is_own(frame.file, files)]
        if places:
            own[places[0].file, places[0].line] += 1
        for frame in {(frame.file, frame.line): frame for frame in reversed(places)}.values():
            key = (frame.file, frame.line)
            below[key] += 1
            names.setdefault(key, frame.function)
            phases.setdefault(key, collections.Counter())[one.phase] += 1
    texts = {file: _lines_of(file) for file, _ in below}
    return tuple(
        LineTime(
            file=shown_path(file),
            line=line,
            function=names[file, line],
            text=texts[file][line - 1] if line <= len(texts[file]) else "",
            phase=phases[file, line].most_common(1)[0][0],
            ns=own[file, line] * scale.sample_ns,
            below_ns=count * scale.sample_ns,
        )
        for (file, line), count in sorted(below.items(), key=lambda item: (-own[item[0]], -item[1]))[:_MOST_LINES]
    )


def instructions(
    recording: Recording, found: Sequence[Attributed], scale: Scale, space: AddressSpace
) -> tuple[InstructionTime, ...]:
    """Return the most sampled instructions, ordered by function and address."""
    from attnbench.profiling.code.instructions import texts_of

    counted = collections.Counter(
        (sample.address, one.frames[0])
        for sample, one in zip(recording.samples, found, strict=True)
        if one.frames[0].module != "kernel"
    )
    enough = max(2.0, _LEAST_OF_INSTRUCTION * len(found))
    most = [(address, place, n) for (address, place), n in counted.most_common(_MOST_INSTRUCTIONS) if n >= enough]
    texts = texts_of((address for address, _, _ in most), space)
    return tuple(
        InstructionTime(
            function=place.name,
            line=place.line,
            address=hex(address),
            text=texts.get(address, ""),
            ns=count * scale.sample_ns,
        )
        for address, place, count in sorted(most, key=lambda one: (one[1].name, one[0]))
    )


def stacks(recording: Recording, found: Sequence[Attributed], scale: Scale) -> tuple[Stack, ...]:
    """Group the samples by callers, most frequent first."""
    counted = collections.Counter(
        (sample.thread == recording.main_thread, one.phase, _chain(one.frames))
        for sample, one in zip(recording.samples, found, strict=True)
    )
    return tuple(
        Stack(
            thread="main thread" if is_main else "other threads",
            phase=phase,
            frames=frames,
            ns=count * scale.sample_ns,
        )
        for (is_main, phase, frames), count in counted.most_common(_MOST_STACKS)
    )


def _chain(frames: Sequence[Place]) -> tuple[str, ...]:
    """Return names, outermost first: lines of Python, then callers; equal neighbours are merged."""
    python = [frame for frame in frames if frame.module == PYTHON]
    ordered = [*reversed(python), *reversed([frame for frame in frames if frame.module != PYTHON])]
    names: list[str] = []
    for frame in ordered[-_MOST_FRAMES:]:
        where = f" {Path(frame.file).name}:{frame.line}" if frame.line else ""
        name = f"{frame.function or frame.module}{where}"
        if not names or names[-1] != name:
            names.append(name)
    return tuple(names)


def _is_own(file: str, files: frozenset[str]) -> bool:
    """Whether a source is the implementation's or the user's, not a library's."""
    return file in files or (file.endswith(".py") and not any(part in file for part in _FOREIGN))


def _lines_of(file: str) -> list[str]:
    try:
        return read_regular(Path(file), _LARGEST_SOURCE).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
