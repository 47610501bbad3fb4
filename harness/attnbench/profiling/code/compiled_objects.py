"""Object files that were compiled in this process: functions and lines by address."""

from __future__ import annotations

import io
import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from attnbench.profiling.code.debug_lines import Line, LineRange, lines_of
from attnbench.profiling.code.inlined import InlinedCall, inlined_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXECUTABLE = 4  # SHF_EXECINSTR


class CompiledObject:
    """An object file in memory: its functions and, if it has debug information, the line of each address.

    Args:
        data: the file; its sections have the addresses at which they are loaded, its relocations are not applied.

    Raises:
        ValueError: if it cannot be read.
    """

    def __init__(self, data: bytes) -> None:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile

        try:
            elf = ELFFile(io.BytesIO(data))
            sections = list(elf.iter_sections())
            loaded = [s for s in sections if s["sh_flags"] & _EXECUTABLE and s["sh_addr"] and s["sh_size"]]
            self.ranges = [(s["sh_addr"], s["sh_addr"] + s["sh_size"]) for s in loaded]
            self.data = data
            self._lines: list[LineRange] | None = None
            self._starts: list[int] = []
            self._inlined: list[InlinedCall] | None = None
            bases = {i: s["sh_addr"] for i, s in enumerate(sections)}
            self._functions = sorted(_functions(elf, bases))
            self.has_lines = elf.get_section_by_name(".debug_line") is not None
        except (ELFError, struct.error, KeyError, AttributeError) as error:
            raise ValueError(f"an object file that cannot be read: {error}") from error

    def function_at(self, address: int) -> str:
        """Return the name of the function at an address."""
        place = bisect_right(self._functions, (address, "\U0010ffff")) - 1
        return self._functions[place][1] if place >= 0 else ""

    def line_at(self, address: int) -> Line | None:
        """Return the line at an address, or ``None``."""
        if self._lines is None:
            self._lines = sorted(lines_of(self.data), key=lambda one: one.start)
            self._starts = [one.start for one in self._lines]
        place = bisect_right(self._starts, address) - 1
        if place < 0 or address >= self._lines[place].end:
            return None
        return self._lines[place].line

    def inlined_at(self, address: int) -> tuple[tuple[Line, str], ...]:
        """Return the lines of the calls inlined at an address, each with its function, innermost first."""
        if self._inlined is None:
            self._inlined = inlined_calls(self.data)
        around = [call for call in self._inlined if call.start <= address < call.end]
        return tuple((call.line, call.caller) for call in sorted(around, key=lambda call: -call.depth))


def _functions(elf: Any, bases: dict[int, int]) -> Iterator[tuple[int, str]]:
    table = elf.get_section_by_name(".symtab")
    for symbol in table.iter_symbols() if table is not None else ():
        base = bases.get(symbol["st_shndx"], 0)
        if symbol["st_info"]["type"] == "STT_FUNC" and base:
            yield base + symbol["st_value"], symbol.name
