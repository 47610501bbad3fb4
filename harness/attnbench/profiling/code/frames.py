"""Call frame information of code that was compiled in this process, for unwinding (DWARF 5, section 6.4)."""

from __future__ import annotations

import dataclasses
import io
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from attnbench.profiling.code.debug_lines import placed

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECTION = ".eh_frame"
FRAME_POINTER, STACK_POINTER = 6, 7
"""DWARF numbers of x86-64's registers (System V ABI, figure 3.36)."""


@dataclasses.dataclass(frozen=True)
class FrameRule:
    """The caller's frame begins ``offset`` bytes above a register; the return address is right below it."""

    register: int
    offset: int
    frame_pointer_at: int | None
    """Offset from the start of the caller's frame at which its frame pointer is saved; ``None``: in its register."""


class FrameRules:
    """The rules of an object file in memory; empty if it cannot be read."""

    def __init__(self, data: bytes) -> None:
        from elftools.common.exceptions import DWARFError, ELFError

        try:
            self._rows = sorted(_rows(data), key=lambda row: row[0])
        except (DWARFError, ELFError, KeyError, ValueError):
            self._rows = []
        self._starts = [start for start, _, _ in self._rows]

    def at(self, address: int) -> FrameRule | None:
        """Return the rule at an address, or ``None``."""
        place = bisect_right(self._starts, address) - 1
        return self._rows[place][2] if place >= 0 and address < self._rows[place][1] else None


def _rows(data: bytes) -> Iterator[tuple[int, int, FrameRule | None]]:
    """Yield first address, end address (exclusive) and rule."""
    from elftools.dwarf.callframe import FDE, CallFrameInfo
    from elftools.dwarf.structs import DWARFStructs
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(io.BytesIO(placed(data, _SECTION)))
    section = elf.get_section_by_name(_SECTION)
    if section is None:
        return
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
    contents = io.BytesIO(section.data())
    frames = CallFrameInfo(contents, section["sh_size"], section["sh_addr"], structs, for_eh_frame=True)
    for entry in frames.get_entries():
        if not isinstance(entry, FDE):
            continue
        end = entry.header["initial_location"] + entry.header["address_range"]
        table = entry.get_decoded().table
        for row, following in zip(table, [*table[1:], None], strict=True):
            yield row["pc"], following["pc"] if following else end, _rule(row)


def _rule(row: dict[Any, Any]) -> FrameRule | None:
    place = row["cfa"]
    if place.reg not in (FRAME_POINTER, STACK_POINTER) or place.offset is None:
        return None
    saved = row.get(FRAME_POINTER)
    return FrameRule(place.reg, place.offset, saved.arg if saved is not None and saved.type == "OFFSET" else None)
