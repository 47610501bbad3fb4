"""Looks up functions of ELF files by address (System V ABI, "Object Files")."""

from __future__ import annotations

import dataclasses
import functools
import mmap
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_LOAD, _EXECUTABLE = 1, 1
_EH_FRAME_HEADER = 0x6474E550
_FRAMES = struct.Struct("<BBBBiI")
"""Version, three encodings, a pointer, and the number of (function, frame) pairs that follow."""
_USUAL_FRAMES = (1, 0x03, 0x3B)
"""Version and encodings of the usual table: pairs of 32-bit numbers, relative to the table's start."""
_PAGE = mmap.PAGESIZE
_SYMTAB, _DYNSYM = 2, 11
_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_UNTYPED = 0  # hand-written assembly is often untyped


class ElfError(ValueError):
    """The file is not a 64-bit little-endian ELF file, or is damaged."""


@dataclasses.dataclass(frozen=True)
class Section:
    """A section's header."""

    kind: int
    address: int
    offset: int
    size: int
    link: int


class Elf:
    """An ELF file's sections and symbols.

    Raises:
        ElfError: if it cannot be read.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        try:
            ident, *_, programs, sections, _, _, _, programs_count, _, sections_count, _ = _HEADER.unpack_from(data)
            if ident[:6] != b"\x7fELF\x02\x01":
                raise ElfError("no 64-bit little-endian ELF file")
            self._programs = [_PROGRAM.unpack_from(data, programs + i * _PROGRAM.size) for i in range(programs_count)]
            headers = [_SECTION.unpack_from(data, sections + i * _SECTION.size) for i in range(sections_count)]
        except struct.error as error:
            raise ElfError(f"a damaged ELF file: {error}") from error
        self.sections = [Section(kind, at, offset, size, link) for _, kind, _, at, offset, size, link, *_ in headers]

    def address_of(self, offset: int) -> int | None:
        """Return the address, relative to the file's load base, of a byte of the file that is mapped executable."""
        for kind, flags, start, address, _, size, *_ in self._programs:
            if kind == _LOAD and flags & _EXECUTABLE and start - _PAGE < offset < start + size:
                return int(address + offset - start)  # the mapped page may begin before the segment
        return None

    def symbol(self, name: str) -> int | None:
        """Return the address of a symbol of any kind, or ``None``."""
        for table, names in self._tables():
            sought = name.encode() + b"\0"
            at = names.find(b"\0" + sought)
            if at >= 0:
                found = table[(table["name"] == at + 1) & (table["section"] != 0)]
                if len(found):
                    return int(found["value"][0])
        return None

    @functools.cached_property
    def _functions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bytes]]:
        """Return sorted addresses, sizes, positions of names as table * 2^32 + offset, and the string tables."""
        starts, sizes, places, tables = [], [], [], []
        for number, (table, names) in enumerate(self._tables()):
            kind = table["info"] & 0xF
            wanted = table[(np.isin(kind, _FUNCTIONS) | (kind == _UNTYPED)) & (table["section"] != 0)]
            wanted = wanted[wanted["name"] != 0]
            starts.append(wanted["value"])
            sizes.append(wanted["size"])
            places.append(wanted["name"].astype(np.int64) + (number << 32))
            tables.append(names)
        if not starts:
            return np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64), []
        together = np.concatenate(starts)
        order = np.argsort(together, kind="stable")
        return together[order], np.concatenate(sizes)[order], np.concatenate(places)[order], tables

    def function_at(self, address: int) -> str | None:
        """Return the name of the function that contains an address, or ``None`` if no named function does."""
        starts, sizes, places, tables = self._functions
        place = int(np.searchsorted(starts, np.uint64(address), "right")) - 1
        if place < 0:
            return None
        size = int(sizes[place])
        if size and address >= int(starts[place]) + size:
            return None
        number, at = divmod(int(places[place]), 1 << 32)
        names = tables[number]
        return names[at : names.index(b"\0", at)].decode("utf-8", "replace")

    @functools.cached_property
    def _frames(self) -> np.ndarray:
        """Return first addresses of all functions, from the unwinding table of exceptions (LSB, ".eh_frame_hdr")."""
        for kind, _, offset, address, _, size, *_ in self._programs:
            head = self._data[offset : offset + _FRAMES.size] if kind == _EH_FRAME_HEADER else b""
            if len(head) < _FRAMES.size or offset + size > len(self._data):
                continue
            version, _, count_kind, table_kind, _, count = _FRAMES.unpack(head)
            if (version, count_kind, table_kind) == _USUAL_FRAMES and _FRAMES.size + 8 * count <= size:
                pairs = np.frombuffer(self._data, "<i4", 2 * count, offset + _FRAMES.size)
                return np.asarray(pairs[::2].astype(np.int64) + address)
        return np.empty(0, np.int64)

    def function_start(self, address: int) -> int | None:
        """Return the first address of the function, named or not, that contains an address, or ``None`` if unknown."""
        starts = self._frames
        place = int(np.searchsorted(starts, address, "right")) - 1
        return int(starts[place]) if place >= 0 else None

    def _tables(self) -> Iterator[tuple[np.ndarray, bytes]]:
        for kind in (_SYMTAB, _DYNSYM):
            for section in self.sections:
                if section.kind != kind or section.link >= len(self.sections):
                    continue
                names = self.sections[section.link]
                count = section.size // _SYMBOL.itemsize
                if section.offset + section.size > len(self._data) or names.offset + names.size > len(self._data):
                    raise ElfError("a damaged ELF file: its symbols lie beyond its end")
                table = np.frombuffer(self._data, _SYMBOL, count, section.offset)
                yield table, bytes(self._data[names.offset : names.offset + names.size])


def of_file(path: Path) -> Elf:
    """Map a file and parse its headers.

    Raises:
        ElfError, OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        try:
            return Elf(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:
            raise ElfError(f"{path}: {error}") from error
