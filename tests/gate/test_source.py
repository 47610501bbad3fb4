"""Each form of REF resolves to its source, and each kind of mistake has its own message."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from attnbench.gate.measure.side import prepare
from attnbench.gate.measure.source import SideError, files_of, require_committed, resolve

PYPROJECT = '[project]\nname = "kernels"\nversion = "1"\n'


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project with two commits and a branch."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "kernel.py").write_text("x = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    (folder / "kernel.py").write_text("x = 2\n")
    git(folder, "commit", "--quiet", "-am", "two")
    return folder


def refusal(ref: str, here: Path) -> str:
    with pytest.raises(SideError) as refused:
        resolve(ref, here)
    return str(refused.value)


def test_a_revision_of_the_repository(repository: Path) -> None:
    source = resolve("HEAD~1", repository)
    assert source.kind == "revision"
    assert source.commit == git(repository, "rev-parse", "HEAD~1")
    assert source.label == f"HEAD~1 ({source.commit[:10]})"


def test_the_same_tree_under_two_names_is_the_same_content(repository: Path) -> None:
    assert resolve("main", repository).content == resolve("HEAD", repository).content
    assert resolve("main", repository).content != resolve("HEAD~1", repository).content


def test_a_tilde_that_the_shell_left_is_the_home_folder(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(repository.parent))
    assert resolve("~/project", Path("/")).path == repository.resolve()
    assert "does not exist" in refusal("~nobody-of-this-name/project", repository)


def test_a_directory_is_hashed_as_it_is_with_uncommitted_changes(repository: Path) -> None:
    before = resolve(".", repository)
    assert before.kind == "directory"
    (repository / "kernel.py").write_text("x = 3\n")
    assert resolve(".", repository).content != before.content


def test_prose_and_what_git_ignores_are_no_part_of_the_content(repository: Path) -> None:
    before = resolve(".", repository).content
    (repository / "README.md").write_text("words\n")
    (repository / ".gitignore").write_text("*.log\n")
    with_ignore = resolve(".", repository).content
    (repository / "noise.log").write_text("x")
    assert resolve(".", repository).content == with_ignore != before
    assert Path("noise.log") not in files_of(repository)


def test_a_plugin_and_a_wheel_are_told_by_their_ending(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n")
    with zipfile.ZipFile(tmp_path / "k-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("k/__init__.py", "")
        wheel.writestr("k-1.dist-info/METADATA", "Name: k\nVersion: 1\n")
    assert resolve("mine.py", tmp_path).kind == "plugin"
    assert resolve("k-1-py3-none-any.whl", tmp_path).kind == "wheel"


def test_a_branch_goes_before_a_directory_of_the_same_name(repository: Path) -> None:
    (repository / "main").mkdir()
    (repository / "main" / "pyproject.toml").write_text(PYPROJECT)
    assert resolve("main", repository).kind == "revision"
    assert resolve("./main", repository).kind == "directory"


def test_the_checked_out_commit_as_head_needs_a_clean_checkout(repository: Path) -> None:
    require_committed(resolve("HEAD", repository))
    (repository / "kernel.py").write_text("x = 3\n")
    require_committed(resolve(".", repository))
    require_committed(resolve("HEAD~1", repository))
    with pytest.raises(SideError, match=r"the checkout has changes that it does not hold.*--head \."):
        require_committed(resolve("main", repository))


@pytest.mark.parametrize(
    ("ref", "sentence"),
    [
        ("mian", "mian is neither a revision that git knows here nor a directory; did you mean 'main'?"),
        ("./missing", "./missing does not exist: a side is a git revision, a directory, a wheel or a plug-in file"),
        ("./kernel.py/x", "./kernel.py/x does not exist: a side is a git revision, a directory"),
        ("missing.py", "missing.py cannot be read: No such file or directory"),
        ("missing.whl", "missing.whl cannot be read: No such file or directory"),
        ("empty", "empty has no pyproject.toml, so it cannot be installed; a kernel in one file is given as it is"),
        ("--upload-pack=x", "--upload-pack=x is neither a revision that git knows here nor a directory"),
    ],
)
def test_a_ref_that_names_nothing(repository: Path, ref: str, sentence: str) -> None:
    (repository / "empty").mkdir()
    assert refusal(ref, repository).startswith(sentence)


def test_a_revision_without_pyproject(repository: Path) -> None:
    git(repository, "rm", "--quiet", "pyproject.toml")
    git(repository, "commit", "--quiet", "-m", "three")
    assert "has no pyproject.toml" in refusal("HEAD", repository)


def test_a_pyproject_that_is_not_toml(repository: Path) -> None:
    (repository / "pyproject.toml").write_text("[project\n")
    assert refusal(".", repository).startswith(".: pyproject.toml is not TOML: ")


def test_a_wheel_with_a_dependency_that_is_none_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "k-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("k-1.dist-info/METADATA", "Name: k\nVersion: 1\nRequires-Dist: numpy == = 2\n")
    source = resolve("k-1-py3-none-any.whl", tmp_path)
    with pytest.raises(SideError, match=r"^k-1-py3-none-any.whl has a dependency that is none: "):
        prepare(source, tmp_path / "cache", lambda folder: (), lambda said: None)


def test_a_wheel_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.whl").write_text("no archive")
    assert refusal("text.whl", tmp_path) == "text.whl is no wheel: it is not a zip archive"
    with zipfile.ZipFile(tmp_path / "bare.whl", "w") as archive:
        archive.writestr("k.py", "")
    assert refusal("bare.whl", tmp_path) == "bare.whl is no wheel: it holds no .dist-info/METADATA"


def test_outside_of_a_repository(tmp_path: Path) -> None:
    said = refusal("main", tmp_path)
    assert said == "main is not a directory, and this is no git repository, so it cannot be a revision either"


def test_equal_plugins_of_two_folders_are_two_sides_as_their_neighbours_may_differ(tmp_path: Path) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "kernel.py").write_text("from tiles import scores\n")
    old, new, again = (resolve(ref, tmp_path) for ref in ("old/kernel.py", "new/kernel.py", "./old/../old/kernel.py"))
    assert old.content != new.content
    assert old.content == again.content
