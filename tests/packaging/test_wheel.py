"""The wheel has one top-level name, and works without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    # Built from the tracked files, so that a stray build folder in the checkout cannot leak into it.
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in files:
        if (REPOSITORY / name).is_file() and not name.startswith(("results/", "reports/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPOSITORY / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source], check=True,
        capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def test_attnbench_is_its_only_top_level_name(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"attnbench"}
    subprocess.run(["check-wheel-contents", "--toplevel", "attnbench", wheel], check=True, env=with_scripts())


def with_scripts() -> dict[str, str]:
    return {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}


def test_every_module_scenario_and_template_is_in_it(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"attnbench/{path.relative_to(REPOSITORY / 'harness' / 'attnbench')}" for path in
                (REPOSITORY / "harness" / "attnbench").rglob("*.py")}  # fmt: skip
    for folder, pattern in (
        ("implementations", "*.py"),
        ("implementations", "*.md"),
        ("scenarios", "*.toml"),
        ("scenarios", "*.json"),
    ):
        expected |= {f"attnbench/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / folder).rglob(pattern)}
    templates = (REPOSITORY / "harness" / "attnbench" / "views").rglob("templates/*")
    expected |= {f"attnbench/{path.relative_to(REPOSITORY / 'harness' / 'attnbench')}" for path in templates}
    assert expected <= packed, expected - packed


def test_the_installed_wheel_runs_a_scenario_far_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    # Its dependencies are this environment's: what is tested is attnbench, not the package index.
    borrowed = sysconfig.get_path("purelib")
    (site,) = (environment / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(f"import sys; sys.path.append({borrowed!r})\n")
    program = "import attnbench; print(attnbench.__file__)"
    where = subprocess.run([python, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert str(environment) in where
    done = subprocess.run(
        [environment / "bin" / "attnbench", "run", "quick", "-i", "^naive/numpy$", "--peaks", "none"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip()).is_file()
