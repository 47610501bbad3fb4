"""Source lines of code that LLVM compiled in this process (DWARF, read with pyelftools)."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_RELOCATIONS = {
    1: ("<Q", False),  # R_X86_64_64
    2: ("<I", True),  # R_X86_64_PC32
    10: ("<I", False),  # R_X86_64_32
    24: ("<Q", True),  # R_X86_64_PC64
    257: ("<Q", False),  # R_AARCH64_ABS64
    258: ("<I", False),  # R_AARCH64_ABS32
    260: ("<Q", True),  # R_AARCH64_PREL64
    261: ("<I", True),  # R_AARCH64_PREL32
}
"""Format of the field, and whether it is relative to its own address (ELF for x86-64 and for Arm 64-bit)."""
_ADVANCED_LINES = 4  # versions from 5 on count files and folders from 0


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a source file; 0 if the compiler gives none."""

    file: str
    number: int


@dataclasses.dataclass(frozen=True)
class LineRange:
    """A range of addresses with one line; ``end`` is exclusive."""

    start: int
    end: int
    line: Line


def lines_of(data: bytes) -> Iterator[LineRange]:
    """Yield ranges of addresses with their lines, for all compilation units."""
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(io.BytesIO(placed(data, ".debug_line", ".debug_info")))
    if not elf.has_dwarf_info():
        return
    dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False)
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        previous = None
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if previous is not None and state.address > previous.address:
                file = file_of(program, previous.file, unit)
                yield LineRange(previous.address, state.address, Line(file, previous.line))
            previous = None if state.end_sequence else state


def placed(data: bytes, *names: str) -> bytes:
    """Return the object with relocations of some sections applied, which LLVM leaves to debuggers."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.relocation import RelocationSection
    from elftools.elf.sections import SymbolTableSection

    elf = ELFFile(io.BytesIO(data))
    bases = [section["sh_addr"] for section in elf.iter_sections()]
    table = elf.get_section_by_name(".symtab")
    result = bytearray(data)
    for name in names:
        target, relocations = elf.get_section_by_name(name), elf.get_section_by_name(f".rela{name}")
        if target is None or not (isinstance(relocations, RelocationSection) and isinstance(table, SymbolTableSection)):
            continue
        for one in relocations.iter_relocations():
            symbol = table.get_symbol(one["r_info_sym"])
            section = symbol["st_shndx"]
            form, is_relative = _RELOCATIONS.get(one["r_info_type"], ("", False))
            if form and isinstance(section, int) and section < len(bases):
                address = bases[section] + symbol["st_value"] + one["r_addend"]
                if is_relative:
                    address -= target["sh_addr"] + one["r_offset"]
                size = 8 * struct.calcsize(form)
                struct.pack_into(form, result, target["sh_offset"] + one["r_offset"], address % (1 << size))
    return bytes(result)


def file_of(program: Any, number: int, unit: Any) -> str:
    """Return the path of a file by its number in the line table; empty if there is none."""
    first = 0 if program["version"] > _ADVANCED_LINES else 1
    entries = program["file_entry"]
    if not first <= number < len(entries) + first:
        return ""
    entry = entries[number - first]
    name = entry.name.decode("utf-8", "replace")
    folders = program["include_directory"]
    place = entry["dir_index"] - first
    folder = folders[place].decode("utf-8", "replace") if 0 <= place < len(folders) else _folder(unit)
    return str(PurePosixPath(folder) / name)


def _folder(unit: Any) -> str:
    attribute = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
    return attribute.value.decode("utf-8", "replace") if attribute is not None else ""
