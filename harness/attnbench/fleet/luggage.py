"""Plug-ins that travel: their files, and those beside them, put down on another machine as they lay here."""

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
"""The largest file beside a plug-in that travels without being named in a source."""

_REMOVES_AT_THE_END = 'exec 3<&0; { read -r _ <&3; rm -rf -- "$1"; } &'
"""For a shell: reads until the pipe closes. It goes on by itself: an engine kills the children of what it ends."""


@contextlib.contextmanager
def folder_of_this_process() -> Iterator[Path]:
    """A temporary folder that is removed with this process, even if that is killed."""
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
    """Files by their paths under a common folder, and the plug-ins among them as a command line names them."""

    files: dict[str, bytes]
    plugins: tuple[str, ...]

    def put_down(self, folder: Path) -> tuple[str, ...]:
        """Write the files under a folder; the plug-ins as they are named there."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tuple(str(folder / plugin) for plugin in self.plugins)


def packed(plugins: Sequence[str], found: Iterable[Found]) -> Luggage:
    """Files that travel with plug-ins.

    These are the files that they read while they are imported or name in their sources, and code and data that lies
    beside them.

    Args:
        plugins: as on the command line.
        found: the implementations, of whatever origin.
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
