"""Resolves addresses of this process to library, function and, for code compiled with line information, line."""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import functools
import re
from bisect import bisect_right
from pathlib import Path

from attnbench.profiling.code.compiled_objects import CompiledObject
from attnbench.profiling.code.elf import Elf, ElfError, of_file
from attnbench.profiling.code.frames import FrameRule, FrameRules
from attnbench.profiling.code.jit_objects import objects
from attnbench.profiling.code.mappings import Mapping, executable
from attnbench.profiling.code.perf_map import own_perf_map

KERNEL = 1 << 63
COMPILED, PYTHON = "compiled", "python"
KALLSYMS = Path("/proc/kallsyms")
_JIT_HOSTS = re.compile(r"llvmlite")
_CALLS = (0xE8, 0xFF)
_LONGEST_CALL = 7
_LONGEST_NAME = 200
_MANY_VERSIONS = ("memcpy", "memmove", "memset", "memcmp", "memchr", "strlen", "strcmp", "strchr")
_ARRAY_EXPRESSION = "array expression"
"""A function that Numba makes of one. Its lines are of a text that nobody sees, in the name of the caller's file."""
_PLUGIN = re.compile(r"attnbench_plugin_[0-9a-f]+\.")
"""The module of a plug-in file, by its path: two revisions of one function have one name."""
_PARFOR = re.compile(r"__numba_parfor_gufunc_0x[0-9a-f]*?([0-9a-f]{1,6})(?![0-9a-f])")


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in the program's code."""

    module: str
    """File name of the library; ``kernel``; ``compiled`` for code that was compiled in this process."""
    function: str
    """Demangled name; without a name, the function's offset in its library, or the page."""
    file: str = ""
    line: int = 0

    @property
    def name(self) -> str:
        """``module!function``."""
        return f"{self.module}!{self.function}"


class AddressSpace:
    """A snapshot of this process's code; code that is loaded later is unknown."""

    def __init__(self) -> None:
        self._mappings = executable()
        self._starts = [mapping.start for mapping in self._mappings]
        self._elves: dict[str, Elf | None] = {}
        self._bases: dict[str, int] = {}
        hosts = {m.name: m for m in self._mappings if m.is_file and _JIT_HOSTS.search(m.name)}
        self._compiled = []
        for data in objects(list(hosts.values())):
            try:
                self._compiled.append(CompiledObject(data))
            except (ValueError, ImportError):  # without the extra `profile`, or damaged
                continue  # its samples are placed by page
        self._ranges = sorted((a, b, i) for i, one in enumerate(self._compiled) for a, b in one.ranges)
        self._range_starts = [a for a, _, _ in self._ranges]
        self._named = own_perf_map()
        self._frames: dict[int, FrameRules] = {}
        self.place = functools.cache(self._place)
        self.places = functools.cache(self._places)
        self.is_return_address = functools.cache(self._is_return_address)

    @property
    def has_lines(self) -> bool:
        """Whether code was compiled in this process with line information."""
        return any(code.has_lines for code in self._compiled)

    def mapping(self, address: int) -> Mapping | None:
        """Return the executable mapping that contains an address."""
        place = bisect_right(self._starts, address) - 1
        return self._mappings[place] if place >= 0 and address < self._mappings[place].end else None

    def function_start(self, address: int) -> int | None:
        """Return the first address of the function around an address, or ``None`` if its library doesn't tell."""
        if (named := self._named.at(address)) is not None:
            return named[0]
        mapping = self.mapping(address)
        elf = self._elf(mapping.name) if mapping is not None and mapping.is_file else None
        if mapping is None or elf is None:
            return None
        start = elf.function_start(address - self._base(mapping, elf))
        return None if start is None else start + self._base(mapping, elf)

    def _places(self, address: int) -> tuple[Place, ...]:
        """Return the place of an address, and the places that it was inlined into, innermost first."""
        found = self.place(address)
        code = self._code(address) if found.line else None
        if code is None or not (inlined := code.inlined_at(address)):
            return (found,)
        names = [short_name(name) for _, name in inlined]
        callers = (
            Place(found.module, name, line.file, line.number) for (line, _), name in zip(inlined, names, strict=True)
        )
        return (found, *callers)

    def _code(self, address: int) -> CompiledObject | None:
        """Return the object file, compiled in this process, that contains an address."""
        place = bisect_right(self._range_starts, address) - 1
        if place < 0 or address >= self._ranges[place][1]:
            return None
        return self._compiled[self._ranges[place][2]]

    def frame_rule(self, address: int) -> FrameRule | None:
        """Return the rule for unwinding code compiled in this process; ``None`` for any other code."""
        code = self._code(address)
        if code is None:
            return None
        if id(code) not in self._frames:
            self._frames[id(code)] = FrameRules(code.data)
        return self._frames[id(code)].at(address)

    @property
    def span(self) -> tuple[int, int]:
        """The lowest and the highest address of code."""
        return self._starts[0], self._mappings[-1].end

    def _place(self, address: int) -> Place:
        if address >= KERNEL:
            return Place("kernel", _kernel_function(address))
        mapping = self.mapping(address)
        if mapping is None:
            return Place("unmapped", hex(address))
        if not mapping.is_file:
            return self._compiled_place(address, mapping.start)
        elf = self._elf(mapping.name)
        if elf is None:
            return Place(mapping.path.name, f"+{address - mapping.start + mapping.offset:#x}")
        base = self._base(mapping, elf)
        function = elf.function_at(address - base)
        if function is not None:
            return Place(mapping.path.name, demangled(function)[:_LONGEST_NAME])
        start = elf.function_start(address - base)
        if start is None:
            return Place(mapping.path.name, _page(address - mapping.start + mapping.offset))
        return Place(mapping.path.name, _chosen().get(start + base, f"+{start:#x}"))

    def _base(self, mapping: Mapping, elf: Elf) -> int:
        """Return the offset of a file's symbols in memory, computed from its first mapping that is looked up."""
        return self._bases.setdefault(mapping.name, mapping.base(elf))

    def _compiled_place(self, address: int, start: int) -> Place:
        code = self._code(address)
        if code is not None:
            function, line = short_name(code.function_at(address)), code.line_at(address)
            if line is None or function == _ARRAY_EXPRESSION:
                return Place(COMPILED, function)
            return Place(COMPILED, function, line.file, line.number)
        named = self._named.at(address)
        return Place(COMPILED, named[1] if named is not None else _page(address - start))

    def _elf(self, name: str) -> Elf | None:
        if name not in self._elves:
            try:
                self._elves[name] = of_file(Path(name))
            except (ElfError, OSError):
                self._elves[name] = None
        return self._elves[name]

    def _is_return_address(self, address: int) -> bool:
        """Whether a call instruction ends right before an address."""
        mapping = self.mapping(address)
        if mapping is None or address - mapping.start < _LONGEST_CALL:
            return False
        before = ctypes.string_at(address - _LONGEST_CALL, _LONGEST_CALL)
        if before[-5] == _CALLS[0]:
            return True
        return any(before[-size] == _CALLS[1] and before[-size + 1] >> 3 & 7 == 2 for size in (2, 3, 4, 6, 7))


@functools.cache
def _chosen() -> dict[int, str]:
    """Return names of the C library's processor-specific, unnamed functions that it has selected here, by address."""
    library = ctypes.CDLL(None)
    names = [name for name in _MANY_VERSIONS if hasattr(library, name)]
    return {ctypes.cast(library[name], ctypes.c_void_p).value or 0: name for name in names}


def _page(offset: int) -> str:
    """Return a name for a place by its page of 4 KiB."""
    return f"+{offset >> 12 << 12:#x}"


def short_name(name: str) -> str:
    """Return a Numba name without package and types; any other name demangled."""
    parts, at = [], len("_ZN")
    while name.startswith("_ZN") and (digits := re.compile(r"\d+").match(name, at)):
        at = digits.end() + int(digits[0])
        parts.append(name[digits.end() : at])
    if not parts or name[at : at + 1] != "B":  # Numba adds a version tag here, C++ compilers do not
        return _loop(name) or demangled(name)
    plain = ".".join(parts).replace("_3clocals_3e.", "")
    if "__numba_array_expr_" in plain:
        return _ARRAY_EXPRESSION
    return _loop(plain) or _PLUGIN.sub("", ".".join(plain.split(".")[-2:]))


def _loop(name: str) -> str | None:
    """Return a short name for a parallel loop of Numba, told apart by an address, or ``None`` for other functions."""
    found = _PARFOR.search(name)
    return f"parallel loop {found[1]}" if found else None


@functools.cache
def demangled(name: str) -> str:
    """Return a C++ name demangled, any other name unchanged."""
    if not name.startswith("_Z"):
        return name
    try:
        library = ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return name
    demangle, status = library["__cxa_demangle"], ctypes.c_int()
    demangle.restype = ctypes.c_void_p
    demangle.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
    pointer = demangle(name.encode(), None, None, ctypes.byref(status))
    if not pointer:
        return name
    text = ctypes.string_at(pointer).decode("utf-8", "replace")
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    free(pointer)
    return text


@functools.cache
def _kernel_symbols() -> tuple[list[int], list[str]]:
    """Return addresses and names of the kernel's functions; empty if this process may not read the addresses."""
    try:
        lines = [line.split()[:3] for line in KALLSYMS.read_text().splitlines()]
    except OSError:
        return [], []
    found = sorted((int(address, 16), name) for address, kind, name in lines if kind in "tT" and int(address, 16))
    return [address for address, _ in found], [name for _, name in found]


def _kernel_function(address: int) -> str:
    starts, names = _kernel_symbols()
    place = bisect_right(starts, address) - 1
    return names[place] if place >= 0 else ""
