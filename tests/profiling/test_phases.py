"""Comments in a source name the phases of its lines."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from attnbench.profiling.attribution import rules_from
from attnbench.profiling.phases import Phase, PhaseError, phases_of_file, phases_of_source
from attnbench.registry.discover import find
from attnbench.registry.implementation import Implementation
from attnbench.registry.importing import load_module
from tests.conftest import REPOSITORY

SOURCE = textwrap.dedent(
    """\
    # phase: qk
    outside = 1
    def kernel(q):
        first = q
        # phase: softmax
        second = first
        third = second  # phase: exp
        def inner():
            # phase: pv
            fourth = 4
        fifth = inner
        # phase: other
        sixth = fifth
    after = kernel
    """
)


def test_a_comment_of_its_own_names_the_lines_below_it_and_one_behind_a_statement_that_line() -> None:
    found = phases_of_source(SOURCE, "kernel.py")
    assert {line: found.get(line) for line in (2, 4, 6, 7, 10, 13, 14)} == {
        2: None, 4: None, 6: Phase.SOFTMAX, 7: Phase.EXP, 10: Phase.PV, 13: Phase.OTHER, 14: None,
    }  # fmt: skip


def test_a_phase_that_there_is_not_is_refused_with_its_line() -> None:
    with pytest.raises(PhaseError, match=r"kernel.py:2: phase 'sotfmax' is none of qk, exp, softmax"):
        phases_of_source("def f():\n    # phase: sotfmax\n    pass\n", "kernel.py")


def test_a_typo_in_a_file_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text("def f():\n    # phase: sotfmax\n    pass\n")
    with pytest.raises(PhaseError, match="sotfmax"):
        phases_of_file(str(path))


@pytest.mark.parametrize("text", [b"def f(:\n", b"\xff\xfe", b"# phase: qk\n\x00"])
def test_what_is_no_python_names_nothing(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "broken.py"
    path.write_bytes(text)
    assert phases_of_file(str(path)) == {}


SOURCES = sorted((REPOSITORY / "implementations").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_sources_of_implementations_name_phases_that_there_are(path: Path) -> None:
    phases_of_source(path.read_text("utf-8"), str(path))


def test_tables_of_implementations_name_phases_that_there_are() -> None:
    tables = 0
    for found in find(()):
        if found.unavailable is None and found.origin.kind == "module":
            for one in vars(load_module(found.origin)).values():
                if isinstance(one, Implementation):
                    tables += len(rules_from(one.phase_table, one.declaration.name))
    assert tables


@pytest.mark.parametrize(
    ("table", "said"),
    [({"(": "qk"}, "no regular expression"), ({"a": "qq"}, "phase 'qq'"), ({"a": ("exp", "x")}, "phase 'x'")],
)
def test_a_table_that_cannot_be_meant_is_refused(table: dict[str, str | tuple[str, ...]], said: str) -> None:
    with pytest.raises(PhaseError, match=said):
        rules_from(table, "mine/kernel")
