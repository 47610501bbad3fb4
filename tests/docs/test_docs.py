"""What docs/ prints is what commands print, and its pages make a site without a broken link."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from attnbench.cli.main import command_reference
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


def test_the_reference_has_every_command_and_its_options() -> None:
    text = command_reference()
    for command in (
        "run",
        "check",
        "show",
        "compare",
        "report",
        "inspect",
        "profile",
        "gate",
        "baseline save",
        "doctor",
    ):
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
