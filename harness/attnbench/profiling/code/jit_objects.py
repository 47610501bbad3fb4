"""Finds code that LLVM compiled in this process: the ELF objects that it registers for debuggers.

The interface is GDB's (manual, chapter "JIT Compilation Interface"): ``__jit_debug_descriptor`` is the head of a list
of object files in memory, whose sections have the addresses at which they are loaded.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from attnbench.profiling.code.elf import ElfError, of_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnbench.profiling.code.mappings import Mapping

_DESCRIPTOR = "__jit_debug_descriptor"
_MOST_OBJECTS = 10_000


class _Entry(ctypes.Structure):
    pass


_Entry._fields_ = [
    ("next", ctypes.POINTER(_Entry)),
    ("previous", ctypes.POINTER(_Entry)),
    ("address", ctypes.c_void_p),
    ("size", ctypes.c_uint64),
]


class _Descriptor(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("relevant", ctypes.POINTER(_Entry)),
        ("first", ctypes.POINTER(_Entry)),
    )


def objects(libraries: list[Mapping]) -> Iterator[bytes]:
    """Yield the bytes of the object files that the given loaded libraries have registered."""
    for library in libraries:
        try:
            elf = of_file(library.path)
        except (ElfError, OSError):
            continue
        value = elf.symbol(_DESCRIPTOR)
        if value is None:
            continue
        entry = _Descriptor.from_address(library.base(elf) + value).first
        for _ in range(_MOST_OBJECTS):
            if not entry:
                break
            yield ctypes.string_at(entry.contents.address, entry.contents.size)
            entry = entry.contents.next
