"""Files that are mapped executable into this process (proc_pid_maps(5))."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.profiling.code.elf import Elf

MAPS = Path("/proc/self/maps")


@dataclasses.dataclass(frozen=True)
class Mapping:
    """A mapping of executable pages; ``name`` is empty for anonymous memory."""

    start: int
    end: int
    offset: int
    name: str

    @property
    def path(self) -> Path:
        """The mapped file."""
        return Path(self.name)

    @property
    def is_file(self) -> bool:
        """Whether a file is mapped; other code was compiled in this process."""
        return self.name.startswith("/")

    def base(self, elf: Elf) -> int:
        """Return the offset to add to the addresses of the file's symbols."""
        address = elf.address_of(self.offset)
        return self.start - (self.offset if address is None else address)


def executable() -> list[Mapping]:
    """Return all executable mappings, in order."""
    found = []
    for line in MAPS.read_text().splitlines():
        bounds, permissions, offset, _, _, *name = line.split(maxsplit=5)
        if "x" in permissions:
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            found.append(Mapping(start, end, int(offset, 16), name[0] if name else ""))
    return found
