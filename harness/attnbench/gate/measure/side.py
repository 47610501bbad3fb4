"""Prepared sides: an interpreter that sees one side's code, with the same harness on both.

Implementations are under test, the harness is not. Both sides are measured by the harness that runs the gate: its files
replace any version of attnbench that a side installs. If the side is attnbench's own repository, its
``implementations/`` are the side.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.gate.measure.source import SideError, files_of
from attnbench.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnbench.gate.measure.source import SideSource

_SELF = "attnbench"
_READY = "side.json"
_NO_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", "*.nbi", "*.nbc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One side, ready to be measured."""

    label: str
    kind: str
    commit: str | None
    python: str
    """Interpreter that sees the side's code."""
    folder: str
    """Working directory of its runs."""
    plugins: tuple[str, ...]
    identity: str
    """Hash of the measured code; if it is equal on both sides, there is nothing to compare."""
    dependencies: str
    """``shared`` with the gate's own environment, or ``installed`` for this side."""


def this_environment() -> Side:
    """Return the environment that runs the gate, as a side."""
    return Side(
        label="this environment", kind="environment", commit=None, python=sys.executable, folder=str(Path.cwd()),
        plugins=(), identity=_harness_hash()[:16], dependencies="shared",
    )  # fmt: skip


def prepare(
    source: SideSource, cache: Path, plugins_of: Callable[[Path], Sequence[str]], says: Callable[[str], None]
) -> Side:
    """Build an environment for a side, or return the one in the cache.

    Args:
        source: what the side is built from.
        cache: folder that keeps built sides by the hash of everything that goes into them.
        plugins_of: returns the plug-in files that a project's configuration names, given its folder.
        says: shows a message before a slow step.

    Raises:
        SideError: if it cannot be built; with the last lines of the failed command's output.
    """
    if source.kind == "plugin":
        return Side(
            label=source.label, kind=source.kind, commit=None, python=sys.executable, folder=str(Path.cwd()),
            plugins=(str(source.path),), identity=source.content, dependencies="shared",
        )  # fmt: skip
    from filelock import FileLock

    home = cache.absolute() / "sides" / _key(source)  # runs have other working directories
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.with_suffix(".lock")):
        if not (home / _READY).is_file():
            shutil.rmtree(home, ignore_errors=True)
            says(f"preparing {source.label} in {home}")
            home.mkdir()
            dependencies = _build(source, home)
            (home / _READY).write_text(json.dumps({"ref": source.ref, "dependencies": dependencies}), encoding="utf-8")
        ready = json.loads((home / _READY).read_text(encoding="utf-8"))
    checkout = home / "source"
    plugins = tuple(plugins_of(checkout)) if checkout.is_dir() else ()
    return Side(
        label=source.label,
        kind=source.kind,
        commit=source.commit,
        python=str(home / "venv" / "bin" / "python"),
        folder=str(checkout if checkout.is_dir() else home),
        plugins=plugins,
        identity=_identity(home, source, plugins, ready["dependencies"]),
        dependencies=ready["dependencies"],
    )


def _key(source: SideSource) -> str:
    """Return the cache key of a built side: a hash of everything that goes into it."""
    parts = [source.kind, source.content, _harness_hash(), sys.version, sys.prefix, repr(_site_folders())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _harness_hash() -> str:
    digest = hashlib.sha256()
    for folder in (_package("attnbench"), _package("attnbench.implementations"), _package("attnbench.scenarios")):
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.toml")]):
            digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _build(source: SideSource, home: Path) -> str:
    """Fetch the code, make the environment and install; return ``shared`` or ``installed`` for its dependencies."""
    if source.kind == "wheel":
        name, requires = _read_wheel(source)
    else:
        _check_out(source, home / "source")
        name, requires = _read_project(source, home / "source")
    _run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], "the environment cannot be made")
    (site,) = (home / "venv" / "lib").glob("python*/site-packages")
    pins = _pins(home / "source" / "constraints.txt")
    wanted = [str(one) for one in requires if one.name != _SELF]
    if _are_met(requires, pins):
        (site / "shared.pth").write_text("".join(f"{folder}\n" for folder in _site_folders()))
        dependencies = "shared"
    else:
        harness = [text for text in metadata.requires(_SELF) or () if "extra ==" not in text]
        constraints = ["-c", str(home / "source" / "constraints.txt")] if pins else []
        _pip(home, ["install", *constraints, *wanted, *harness], "its dependencies cannot be installed")
        dependencies = "installed"
    if name != _SELF:
        target = source.path if source.kind == "wheel" else home / "source"
        isolation = [] if source.kind == "wheel" or not _builds_here(home / "source") else ["--no-build-isolation"]
        _pip(home, ["install", "--no-deps", *isolation, str(target)], "it cannot be installed")
    _lay_harness_over(site, own=_own_implementations(source, home) if name == _SELF else None)
    return dependencies


def _check_out(source: SideSource, target: Path) -> None:
    if source.kind == "directory":
        for name in files_of(source.path):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source.path / name, target / name)
        return
    # Unlike a worktree, a clone leaves no trace in the user's repository; it shares the objects.
    assert source.commit is not None
    _run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(source.path), str(target)], "it cannot be cloned")
    _run(["git", "-C", str(target), "checkout", "--quiet", "--detach", source.commit], "it cannot be checked out")


def _read_project(source: SideSource, folder: Path) -> tuple[str, list[Any]]:
    table = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    return str(table.get("name", "")), _requirements(table.get("dependencies", []), source)


def _read_wheel(source: SideSource) -> tuple[str, list[Any]]:
    import email

    with zipfile.ZipFile(source.path) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")][:1]
        about = email.message_from_bytes(archive.read(name))
    requires = _requirements(about.get_all("Requires-Dist") or (), source)
    return str(about["Name"]), [one for one in requires if "extra" not in str(one.marker or "")]


def _requirements(texts: Sequence[str], source: SideSource) -> list[Any]:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return [Requirement(text) for text in texts]
    except InvalidRequirement as error:
        raise SideError(f"{source.label} has a dependency that is none: {error}") from error


def _pins(constraints: Path) -> dict[str, str]:
    """Return the ``name==version`` pins of a constraints file by name; empty without a file."""
    from packaging.utils import canonicalize_name

    pins = {}
    for line in constraints.read_text(encoding="utf-8").splitlines() if constraints.is_file() else []:
        name, is_pin, version = line.partition("#")[0].partition("==")
        if is_pin:
            pins[str(canonicalize_name(name.strip()))] = version.partition(";")[0].strip()
    return pins


def _are_met(requires: Sequence[Any], pins: dict[str, str]) -> bool:
    """Whether this environment satisfies the side's dependencies and pins, so that both sides can share it."""
    from packaging.utils import canonicalize_name

    for requirement in requires:
        if requirement.name == _SELF or (requirement.marker and not requirement.marker.evaluate()):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            return False
        pin = pins.get(str(canonicalize_name(requirement.name)))
        if not requirement.specifier.contains(version, prereleases=True):
            return False
        if pin is not None and version.partition("+")[0] != pin.partition("+")[0]:
            return False
    return True


def _builds_here(folder: Path) -> bool:
    """Whether the build requirements are installed here, so that the build needs no download."""
    from attnbench.registry.discover import unmet

    needs = (
        tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        .get("build-system", {})
        .get("requires", ["setuptools"])
    )
    return unmet(needs) is None


def _own_implementations(source: SideSource, home: Path) -> Path:
    """Return the implementations folder of a side that is attnbench itself."""
    if source.kind != "wheel":
        return home / "source" / "implementations"
    with zipfile.ZipFile(source.path) as archive:
        inside = [name for name in archive.namelist() if name.startswith("attnbench/implementations/")]
        archive.extractall(home / "wheel", members=inside)
    return home / "wheel" / "attnbench" / "implementations"


def _lay_harness_over(site: Path, own: Path | None) -> None:
    """Install the gate's own harness in the side's site-packages, with its implementations or ``own``."""
    target = site / _SELF
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(_package("attnbench"), target, ignore=_NO_CODE)
    for part, folder in (("implementations", own), ("scenarios", None)):
        shutil.rmtree(target / part, ignore_errors=True)
        shutil.copytree(folder or _package(f"attnbench.{part}"), target / part, ignore=_NO_CODE)
    about = site / f"{_SELF}-{VERSION}.dist-info"
    shutil.rmtree(about, ignore_errors=True)
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_SELF}\nVersion: {VERSION}\n", encoding="utf-8")


def _package(name: str) -> Path:
    return Path(next(iter(importlib.import_module(name).__path__)))


def _site_folders() -> list[str]:
    """Return this environment's library folders, without the current directory and paths of editable installs."""
    return [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]


def _identity(home: Path, source: SideSource, plugins: Sequence[str], dependencies: str) -> str:
    """Return a hash of the measured code: everything installed for this side, and whether dependencies are shared.

    With plug-ins, all of the source counts: they may import or open any file next to them.
    """
    digest = hashlib.sha256()
    (site,) = (home / "venv" / "lib").glob("python*/site-packages")
    for path in sorted(site.rglob("*")):
        inside = path.relative_to(site)
        if path.is_file() and path.suffix not in (".pyc", ".nbi", ".nbc") and not _is_bookkeeping(inside):
            digest.update(f"{inside}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    if plugins:
        digest.update(source.content.encode())
    return hashlib.sha256(digest.digest() + dependencies.encode()).hexdigest()[:16]


def _is_bookkeeping(inside: Path) -> bool:
    return inside.parts[0].endswith(".dist-info") and inside.name != "entry_points.txt"


def _pip(home: Path, arguments: list[str], failed: str) -> None:
    python = home / "venv" / "bin" / "python"
    _run(
        [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check", *arguments],
        failed,
    )


def _run(command: list[str], failed: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PIP_NO_INPUT": "1"})
    except OSError as error:
        raise SideError(f"{failed}: {command[0]} cannot be started: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        last = [line for line in (error.stderr or error.stdout or "").splitlines() if line.strip()][-3:]
        raise SideError(f"{failed}: {' '.join(line.strip() for line in last)}") from error
