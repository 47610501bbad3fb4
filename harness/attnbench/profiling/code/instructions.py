"""Phases of unnamed code by the instructions around a sample (x86-64, disassembled by capstone)."""

from __future__ import annotations

import ctypes
import platform
import re
from typing import TYPE_CHECKING, Any

from attnbench.profiling.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnbench.profiling.code.addresses import AddressSpace

_GAP = 512
"""Bytes without a sample that separate two stretches of code."""
_AROUND = 96
"""Bytes before and after a sample that are examined, about as many as a kernel's loop has."""
_FARTHEST = 8192
"""The most bytes from a function's start to its first sample."""
_LONGEST_INSTRUCTION = 15

_PRODUCT = re.compile(r"vf(n?)m(add|sub)|vdpb|vdph|vpdp|tdp|fmla")
_EXPONENTIAL = re.compile(r"vscalef|vrndscale|vround|vreduce|vcvtt?p[sd]2dq|vpslld|cvtp[sd]2dq|roundp")
_MAXIMUM = re.compile(r"v?maxp[sd]|v?maxs[sd]")
_MOVE = re.compile(
    r"v?mov(u|a|d|q|nt)?|vunpck|unpck|vinsert|vextract|vperm|vshuf|shuf|vblend|vpunpck|vgather|vbroadcast"
)
_LEAST_SHARE = 0.2


class Instructions:
    """Finds phases of samples by their instructions."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space

    def phases(self, addresses: Iterable[int]) -> dict[int, Phase]:
        """Return the phase of each address for which the instructions reveal one."""
        disassembler = _disassembler()
        if disassembler is None:
            return {}
        found: dict[int, Phase] = {}
        for stretch in _stretches(sorted(set(addresses))):
            mapping = self._space.mapping(stretch[0])
            if mapping is None:
                continue
            # Functions and samples are at the start of an instruction, so that decoding from there is in step.
            begin = self._space.function_start(stretch[0])
            if begin is None or begin < mapping.start or stretch[0] - begin > _FARTHEST:
                begin = stretch[0]
            code = ctypes.string_at(begin, min(stretch[-1] + _AROUND, mapping.end) - begin)
            listed = [(at, name) for at, _, name, _ in disassembler.disasm_lite(code, begin)]
            for address in stretch:
                names = [name for at, name in listed if abs(at - address) <= _AROUND]
                if (phase := phase_of(names)) is not None:
                    found[address] = phase
        return found


def texts_of(addresses: Iterable[int], space: AddressSpace) -> dict[int, str]:
    """Return the instruction at each address in assembly syntax; empty without capstone."""
    disassembler = _disassembler()
    found = {}
    for address in addresses if disassembler is not None else ():
        mapping = space.mapping(address)
        if mapping is not None:
            code = ctypes.string_at(address, min(_LONGEST_INSTRUCTION, mapping.end - address))
            for _, _, name, operands in disassembler.disasm_lite(code, address, 1):
                found[address] = f"{name} {operands}".strip()
    return found


def _disassembler() -> Any:
    """Return a disassembler for this processor's code, or ``None`` if there is none."""
    try:
        import capstone
    except ImportError:
        return None
    if platform.machine() != "x86_64":
        return None
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.skipdata = True
    return disassembler


def phase_of(names: list[str]) -> Phase | None:
    """Return the phase of a piece of code by the names of its instructions, or ``None``."""
    if not names:
        return None
    if _WAITS & set(names):
        return Phase.WAITING
    share = {kind: sum(map(bool, map(kind.match, names))) / len(names) for kind in _KINDS}
    if share[_EXPONENTIAL] and share[_PRODUCT]:
        return Phase.EXP
    if share[_PRODUCT] >= _LEAST_SHARE:
        return Phase.PRODUCTS
    if share[_MAXIMUM]:
        return Phase.SOFTMAX
    if share[_MOVE] >= 2 * _LEAST_SHARE:
        return Phase.COPIES
    return None


_WAITS = frozenset(("pause", "rdtsc", "umwait", "tpause"))
_KINDS = (_PRODUCT, _EXPONENTIAL, _MAXIMUM, _MOVE)


def _stretches(addresses: list[int]) -> Iterable[list[int]]:
    stretch: list[int] = []
    for address in addresses:
        if stretch and address - stretch[-1] > _GAP:
            yield stretch
            stretch = []
        stretch.append(address)
    if stretch:
        yield stretch
