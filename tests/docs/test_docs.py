"""Pages under docs/ show what commands print, name all commands and packages, and make a site without a broken link."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from attnbench.cli.main import app, command_reference
from tests.docs import printed, site

if TYPE_CHECKING:
    from pathlib import Path

needs_zensical = pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason="the extra docs is not installed"
)


@pytest.mark.slow
@pytest.mark.parametrize("page", printed.pages(), ids=lambda page: page.name)
def test_a_page_shows_what_its_commands_print(page: Path) -> None:
    text = page.read_text("utf-8")
    assert printed.renewed(text) == text, "run `make docs`"


@pytest.mark.slow
def test_another_output_of_a_command_is_noticed() -> None:
    text = "<!-- printed by: attnbench schema record | head -2 -->\n```\nsomething else\n```\n"
    assert printed.renewed(text) == text.replace("something else\n", '{\n  "additionalProperties": false,\n...\n')


def entries(menu: dict[str, dict[str, str] | str]) -> list[str]:
    return [page for entry in menu.values() for page in ([entry] if isinstance(entry, str) else entries(dict(entry)))]


def test_every_page_is_in_the_menu() -> None:
    assert {page.name for page in site.DOCS.glob("*.md")} <= set(entries(site.PAGES))


def commands() -> list[str]:
    return [name for name in app if not name.startswith("-")]


def test_the_quick_start_names_every_command() -> None:
    section = (site.DOCS / "index.md").read_text("utf-8").partition("## The commands")[2]
    named = re.findall(r"^attnbench (\w+)", section, re.MULTILINE)
    assert set(named) == set(commands())


def packages_of_the_map(text: str) -> set[str]:
    """Return the paths of the folders below harness/attnbench/ in the tree of architecture.md."""
    tree = text.partition("\nharness/attnbench/ ")[2].partition("\nimplementations/ ")[0]
    above: list[str] = []
    found = set()
    for indent, name in re.findall(r"^( +)(\w+)/", tree, re.MULTILINE):
        above = [*above[: len(indent) // 4 - 1], name]
        found.add("/".join(above))
    return found


def test_the_map_shows_every_package() -> None:
    harness = site.ROOT / "harness" / "attnbench"
    packages = {path.parent.relative_to(harness).as_posix() for path in harness.rglob("__init__.py")} - {"."}
    shown = packages_of_the_map((site.DOCS / "architecture.md").read_text("utf-8"))
    sections = {one for one in packages if one.startswith("views/") and one.count("/") > 1}  # described in words
    assert shown == packages - sections


def test_the_map_has_the_layers_that_the_linter_checks() -> None:
    contracts = tomllib.loads((site.ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    told = "\n".join(layers).replace("attnbench.", "").replace(" | ", " · ")
    assert f"```\n{told}\n```" in (site.DOCS / "architecture.md").read_text("utf-8")


def test_the_reference_has_every_command_and_its_options() -> None:
    text = command_reference()
    for command in (*commands(), "baseline save", "history add"):
        assert re.search(rf"^#+ attnbench {command}$", text, re.MULTILINE), command
    assert "`--plugin, -p" in text


def test_links_out_of_the_folder_lead_to_copies_within_the_site() -> None:
    linked: set[str] = set()
    text = "[a](../reports/h100/report.md) [b](../implementations) [c](gate.md#x) [d](https://e.org) [f](../README.md)"
    assert site.within_site(text, linked) == ("[a](reports/h100/index.html) b [c](gate.md#x) [d](https://e.org) f")
    assert linked == {"reports/h100/index.html"}


@pytest.mark.slow
@needs_zensical
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    first = site.build(tmp_path)
    assert {"commands.html", "gate.html", "live-report.html"} <= {path.name for path in first.parent.iterdir()}
    loaded = re.findall(
        r'<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="?(https?:[^" >]+)', first.read_text("utf-8")
    )
    assert loaded == []


@pytest.mark.slow
@needs_zensical
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out = site.lay_out

    def with_a_mistake(pages: Path) -> None:
        lay_out(pages)
        (pages / "index.md").write_text("[nowhere](nowhere.md)\n", encoding="utf-8")

    monkeypatch.setattr(site, "lay_out", with_a_mistake)
    with pytest.raises(subprocess.CalledProcessError):
        site.build(tmp_path)


RIDDLES = ("What ", "Of ", "Those of ", "Who ", "Whoever ", "Whose ", "As ")


def test_docstrings_begin_with_the_thing_or_with_a_verb() -> None:
    """No docstring is half a sentence whose subject the reader has to guess."""
    found = []
    for folder in ("harness", "implementations", "tests"):
        for path in sorted((printed.ROOT / folder).rglob("*.py")):
            found += [
                f"{path.relative_to(printed.ROOT)}:{node.lineno}"
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if isinstance(node, ast.Expr)
                if isinstance(node.value, ast.Constant) and str(node.value.value).lstrip().startswith(RIDDLES)
            ]
    assert found == []
