"""The source of a side of the gate: a git revision, a directory, a wheel, or a plug-in file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Literal

from attnbench.errors import UsageError
from attnbench.sweep.nearest import did_you_mean

Kind = Literal["revision", "directory", "wheel", "plugin"]
_JUNK = frozenset({".git", ".venv", "venv", "__pycache__", "build", "dist", ".mypy_cache", ".pytest_cache"})


class SideError(UsageError):
    """A ref names no usable side. A usage error, exit code 2."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideSource:
    """The source of a side, before anything is built."""

    ref: str
    """The text that the user typed."""
    kind: Kind
    path: Path
    """The repository of a revision, the directory, the wheel, or the plug-in file."""
    commit: str | None = None
    """Full hash of a revision; ``None`` for other kinds."""
    content: str
    """Hash of everything that a side is built from: equal sources are built once.

    For a plug-in it includes the file's location, since the file may import or open others next to it, and those may
    differ in another folder.
    """

    @property
    def label(self) -> str:
        """For display: the text that the user typed, with the commit."""
        return f"{self.ref} ({self.commit[:10]})" if self.commit and not self.commit.startswith(self.ref) else self.ref


def resolve(ref: str, here: Path) -> SideSource:
    """Resolve a REF of the command line to the source of a side.

    ``FILE.py`` is a plug-in and ``FILE.whl`` a wheel. ``.``, ``..`` and paths that begin with ``./``, ``../``, ``/`` or
    ``~`` are directories. Anything else is a revision of the repository around ``here`` if git knows it, and a
    directory otherwise.

    Raises:
        SideError: if it names nothing, or nothing that can be installed.
    """
    path = here / os.path.expanduser(ref)  # noqa: PTH111 - leaves an unknown user's ~ as it is
    if ref.endswith(".py"):
        return _plugin(ref, path)
    if ref.endswith(".whl"):
        return _wheel(ref, path)
    is_path = ref in (".", "..") or ref.startswith(("./", "../", "/", "~"))
    commit = None if is_path else git(here, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit:
        return _revision(ref, here, commit)
    if path.is_dir():
        return _directory(ref, path.resolve())
    raise SideError(_unknown(ref, here, path, is_path=is_path))


def require_committed(head: SideSource) -> None:
    """Raise if ``head`` is the checked-out commit but the checkout has uncommitted changes, which is seldom intended.

    Raises:
        SideError: if so.
    """
    if head.commit is None or head.commit != git(head.path, "rev-parse", "HEAD"):
        return
    if git(head.path, "status", "--porcelain", "--untracked-files=no"):
        raise SideError(
            f"{head.ref} is the commit that is checked out, but the checkout has changes that it does not hold: "
            "commit or stash them, or judge the directory instead: --head ."
        )


def git(folder: Path, *arguments: str) -> str | None:
    """Return git's output, or ``None`` if it fails or is not installed."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def files_of(directory: Path) -> list[Path]:
    """Return the files of a directory, relative to it: those that git does not ignore, or all but build products."""
    listed = git(directory, "ls-files", "-co", "--exclude-standard", "-z")
    if listed is not None:
        names = [Path(name) for name in listed.split("\0") if name]
    else:
        names = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    return sorted(name for name in names if not _JUNK & set(name.parts) and (directory / name).is_file())


def _plugin(ref: str, path: Path) -> SideSource:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SideError(f"{ref} cannot be read: {error.strerror}") from error
    place = path.resolve()
    return SideSource(ref=ref, kind="plugin", path=place, content=_hash(f"{place}\0".encode() + content))


def _wheel(ref: str, path: Path) -> SideSource:
    try:
        with zipfile.ZipFile(path) as archive:
            parts = sorted((i.filename, i.CRC, i.file_size) for i in archive.infolist() if not _is_metadata(i.filename))
            named = any(name.endswith(".dist-info/METADATA") for name in archive.namelist())
    except OSError as error:
        raise SideError(f"{ref} cannot be read: {error.strerror}") from error
    except zipfile.BadZipFile:
        raise SideError(f"{ref} is no wheel: it is not a zip archive") from None
    if not named:
        raise SideError(f"{ref} is no wheel: it holds no .dist-info/METADATA")
    return SideSource(ref=ref, kind="wheel", path=path.resolve(), content=_hash(repr(parts).encode()))


def _is_metadata(name: str) -> bool:
    return ".dist-info/" in name and not name.endswith(("METADATA", "entry_points.txt"))


def _revision(ref: str, here: Path, commit: str) -> SideSource:
    top = Path(git(here, "rev-parse", "--show-toplevel") or here)
    _require_project(f"{ref} ({commit[:10]})", git(top, "show", f"{commit}:pyproject.toml"))
    listing = git(top, "ls-tree", "-r", commit) or ""
    return SideSource(ref=ref, kind="revision", path=top, commit=commit, content=_hash(_measured(listing).encode()))


def _measured(listing: str) -> str:
    """Return the lines of ``git ls-tree -r`` without documentation, which no measurement reads."""
    return "\n".join(line for line in listing.splitlines() if not line.partition("\t")[2].endswith((".md", ".rst")))


def _directory(ref: str, path: Path) -> SideSource:
    pyproject = path / "pyproject.toml"
    _require_project(ref, pyproject.read_text(encoding="utf-8") if pyproject.is_file() else None)
    digest = hashlib.sha256()
    for name in files_of(path):
        if name.suffix not in (".md", ".rst"):
            digest.update(f"{name}\0".encode() + hashlib.sha256((path / name).read_bytes()).digest())
    return SideSource(ref=ref, kind="directory", path=path, content=digest.hexdigest()[:16])


def _require_project(name: str, text: str | None) -> None:
    """Raise unless a side to be installed has a readable pyproject.toml."""
    if text is None:
        raise SideError(
            f"{name} has no pyproject.toml, so it cannot be installed; a kernel in one file is given as it is"
        )
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SideError(f"{name}: pyproject.toml is not TOML: {error}") from error


def _unknown(ref: str, here: Path, path: Path, *, is_path: bool) -> str:
    if is_path:
        what = "is not a directory" if path.exists() else "does not exist"
        return f"{ref} {what}: a side is a git revision, a directory, a wheel or a plug-in file"
    if git(here, "rev-parse", "--git-dir") is None:
        return f"{ref} is not a directory, and this is no git repository, so it cannot be a revision either"
    names = (git(here, "for-each-ref", "--format=%(refname:short)") or "").split()
    hint = did_you_mean(ref, names)
    shallow = (
        " (the clone is shallow: git fetch --unshallow)"
        if git(here, "rev-parse", "--is-shallow-repository") == "true"
        else ""
    )
    return f"{ref} is neither a revision that git knows here nor a directory{hint}{shallow}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
