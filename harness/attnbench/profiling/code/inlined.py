"""Inlined calls: the calling line by address (DWARF 5, section 3.3.8)."""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING, Any

from attnbench.profiling.code.debug_lines import Line, file_of, placed

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECTIONS = (".debug_line", ".debug_info", ".debug_ranges", ".debug_rnglists")


@dataclasses.dataclass(frozen=True)
class InlinedCall:
    """Code between two addresses that was inlined into the surrounding function."""

    start: int
    end: int
    depth: int
    line: Line
    """The line of the call."""
    caller: str
    """The function that contains the call."""


def inlined_calls(data: bytes) -> list[InlinedCall]:
    """Return all inlined calls of an object file in memory; none if it cannot be read."""
    from elftools.common.exceptions import DWARFError, ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(placed(data, *_SECTIONS)))
        if not elf.has_dwarf_info():
            return []
        dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False)
        return [call for unit in dwarf.iter_CUs() for call in _of_unit(dwarf, unit)]
    except (DWARFError, ELFError, KeyError, ValueError):
        return []


def _of_unit(dwarf: Any, unit: Any) -> Iterator[InlinedCall]:
    program = dwarf.line_program_for_CU(unit)
    if program is not None:
        for die in unit.get_top_DIE().iter_children():
            if die.tag == "DW_TAG_subprogram":
                yield from _below(dwarf, unit, program, die, _name(die), 0)


def _below(dwarf: Any, unit: Any, program: Any, die: Any, caller: str, depth: int) -> Iterator[InlinedCall]:
    for child in die.iter_children():
        if child.tag != "DW_TAG_inlined_subroutine":
            yield from _below(dwarf, unit, program, child, caller, depth)
            continue
        number = child.attributes.get("DW_AT_call_line")
        file = child.attributes.get("DW_AT_call_file")
        if number is not None and file is not None:
            line = Line(file_of(program, file.value, unit), number.value)
            for start, end in _ranges(dwarf, unit, child):
                yield InlinedCall(start, end, depth, line, caller)
        origin = child.get_DIE_from_attribute("DW_AT_abstract_origin")
        yield from _below(dwarf, unit, program, child, _name(origin), depth + 1)


def _ranges(dwarf: Any, unit: Any, die: Any) -> Iterator[tuple[int, int]]:
    low, high = die.attributes.get("DW_AT_low_pc"), die.attributes.get("DW_AT_high_pc")
    if low is not None and high is not None:
        is_address = high.form == "DW_FORM_addr"
        yield low.value, high.value if is_address else low.value + high.value
    elif "DW_AT_ranges" in die.attributes:
        base = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
        start = base.value if base is not None else 0
        for entry in dwarf.range_lists().get_range_list_at_offset(die.attributes["DW_AT_ranges"].value, unit):
            if hasattr(entry, "base_address"):
                start = entry.base_address
            else:
                beyond = 0 if getattr(entry, "is_absolute", False) else start
                yield beyond + entry.begin_offset, beyond + entry.end_offset


def _name(die: Any) -> str:
    for key in ("DW_AT_linkage_name", "DW_AT_name"):
        if key in die.attributes:
            name: str = die.attributes[key].value.decode("utf-8", "replace")
            return name
    return ""
