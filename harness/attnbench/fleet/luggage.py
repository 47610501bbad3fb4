"""Plug-ins for other machines: their files and those next to them, unpacked there in the same layout."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from attnbench.registry.found import file_and_name
from attnbench.registry.sources import CODE_OR_DATA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from attnbench.registry.found import Found

MOST_BYTES = 16 * 2**20
"""Size limit, in bytes, of files next to a plug-in that its sources do not name."""

_REMOVES_AT_THE_END = 'exec 3<&0; { read -r _ <&3; rm -rf -- "$1"; } &'
"""Shell script that waits until its pipe closes. It forks, since an engine kills the children of what it ends."""


@contextlib.contextmanager
def folder_of_this_process() -> Iterator[Path]:
    """Yield a temporary folder that is removed with this process, even if the process is killed."""
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _REMOVES_AT_THE_END, "sh", folder],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        shell.wait()
        yield Path(folder)
    assert shell.stdin is not None
    shell.stdin.close()


@dataclasses.dataclass(frozen=True)
class Luggage:
    """Files by path relative to a common folder, and the plug-ins among them as named on a command line."""

    files: dict[str, bytes]
    plugins: tuple[str, ...]

    def put_down(self, folder: Path) -> tuple[str, ...]:
        """Write the files into a folder, and return the plug-ins as named there."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tuple(str(folder / plugin) for plugin in self.plugins)


def packed(plugins: Sequence[str], found: Iterable[Found]) -> Luggage:
    """Collect the files that travel with plug-ins.

    These are the files that they read during import or name in their sources, and code and data next to them.

    Args:
        plugins: as on the command line.
        found: implementations of any origin.
    """
    named = [file_and_name(plugin) for plugin in plugins]
    sources = [Path(file).resolve() for file, _ in named]
    needed = {Path(file) for one in found if one.origin.kind == "file" for file in one.files}
    beside = {path for source in sources for path in source.parent.iterdir() if _is_light(path)}
    files = sorted({*sources, *needed, *beside})
    if not files:
        return Luggage({}, ())
    root = Path(os.path.commonpath([path.parent for path in files]))
    names = [str(PurePosixPath(source.relative_to(root))) for source in sources]
    return Luggage(
        files={str(PurePosixPath(path.relative_to(root))): path.read_bytes() for path in files},
        plugins=tuple(f"{name}:{only}" if only else name for name, (_, only) in zip(names, named, strict=True)),
    )


def _is_light(path: Path) -> bool:
    is_meant = path.suffix in CODE_OR_DATA and not path.name.startswith(".")
    return is_meant and path.is_file() and path.stat().st_size <= MOST_BYTES
