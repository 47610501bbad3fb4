"""``make gpu-wheels``: fetches the wheels that a bare GPU machine lacks, for Python 3.12, and checks them.

``machine.txt`` lists the packages of such a machine. Every other requirement of attnbench and its GPU back ends is
fetched without dependencies; then each requirement of each wheel must be met by the machine or by another wheel.
"""

from __future__ import annotations

import argparse
import email.parser
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

ROOT = Path(__file__).parents[2]
MOST_MIB = 64
TARGET = {"python_version": "3.12", "python_full_version": "3.12.3", "implementation_name": "cpython",
          "platform_python_implementation": "CPython", "sys_platform": "linux", "platform_system": "Linux",
          "platform_machine": "x86_64", "os_name": "posix", "extra": ""}  # fmt: skip
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64", "any"]
NOT_NEEDED = frozenset({"xformers"})
"""Optional requirements that are left out, as their wheel has no CUDA code for the machine's torch."""
BACK_ENDS = ("fa3", "sage")
"""Extras that are fetched by default."""
WITHOUT = {"nvidia-cudnn-frontend": frozenset({"nvidia-cutlass-dsl"}), "sageattention": frozenset[str]()}
"""Requirements that a back end imports only for unused features."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.wheels", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--back-end", nargs="*", default=BACK_ENDS, help="extras of pyproject.toml")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    there = on_the_machine()
    ours = needs_of_attnbench(given.back_end)
    wanted = [one for one in ours if canonicalize_name(one.name) not in there]
    while missing := [one for one in wanted if not has_wheel(given.folder, one)]:
        for one in missing:
            fetch(one, given.folder)
        wanted = list(
            {*wanted, *(one for one in needs_of_wheels(given.folder) if canonicalize_name(one.name) not in there)}
        )
    problems = [*unmet(given.folder, there, ours), *too_large(given.folder)]
    for line in [*sorted(wheel.name for wheel in given.folder.glob("*.whl")), *problems]:
        sys.stdout.write(f"{line}\n")
    return int(bool(problems))


def on_the_machine() -> dict[str, Version | None]:
    """Return the machine's packages with their versions; ``None`` for an unknown version."""
    lines = (Path(__file__).parent / "machine.txt").read_text().splitlines()
    named = [line.partition("==")[::2] for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) if version else None for name, version in named}


def needs_of_attnbench(back_ends: Sequence[str]) -> list[Requirement]:
    """Return the requirements of attnbench and of the back ends on the machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [
        *project["dependencies"],
        *(text for extra in back_ends for text in project["optional-dependencies"][extra]),
    ]
    return [one for one in map(Requirement, texts) if applies(one) and one.name not in NOT_NEEDED]


def needs_of_wheels(folder: Path) -> Iterator[Requirement]:
    """Yield the requirements of the wheels in a folder."""
    for wheel in folder.glob("*.whl"):
        name = parse_wheel_filename(wheel.name)[0]
        with zipfile.ZipFile(wheel) as archive:
            inside = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
            metadata = email.parser.BytesParser().parsebytes(archive.read(inside))
        for text in metadata.get_all("Requires-Dist") or ():
            one = Requirement(text)
            if applies(one) and one.name not in WITHOUT.get(name, ()):
                yield one


def applies(need: Requirement) -> bool:
    """Whether a requirement applies to the machine."""
    return need.marker is None or need.marker.evaluate(TARGET)


def has_wheel(folder: Path, need: Requirement) -> bool:
    """Whether the folder has a wheel of that name."""
    return any(parse_wheel_filename(one.name)[0] == canonicalize_name(need.name) for one in folder.glob("*.whl"))


def fetch(need: Requirement, folder: Path) -> None:
    """Fetch a wheel, in the version of constraints.txt if that has one."""
    target = [word for platform in PLATFORMS for word in ("--platform", platform)]
    need.marker = None
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *target,
         "--python-version", "3.12", "--implementation", "cp",
         "-c", str(ROOT / "constraints.txt"), "-d", str(folder), str(need)],
        check=True,
    )  # fmt: skip


def unmet(folder: Path, there: dict[str, Version | None], ours: list[Requirement]) -> Iterator[str]:
    """Yield requirements that neither the machine nor a wheel meets."""
    have: dict[str, Version | None] = dict(there)
    for wheel in folder.glob("*.whl"):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        if name not in there and name in have:
            yield f"two versions of {name}: {have[name]} and {version}"
        have[name] = version
    for need in {*ours, *needs_of_wheels(folder)}:
        there_is = have.get(canonicalize_name(need.name))
        if canonicalize_name(need.name) not in have:
            yield f"missing: {need}"
        elif there_is is not None and not need.specifier.contains(there_is, prereleases=True):
            yield f"{need.name} is {there_is}, and {need} is needed"


def too_large(folder: Path) -> Iterator[str]:
    """Yield a sentence if the wheels are larger than allowed."""
    size = sum(one.stat().st_size for one in folder.glob("*.whl")) / 2**20
    if size > MOST_MIB:
        yield f"{size:.1f} MiB in all, and {MOST_MIB} is the most"


if __name__ == "__main__":
    sys.exit(main())
