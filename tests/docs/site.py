"""Builds the site from the Markdown under docs/ and a reference generated from the commands.

``make docs`` copies the pages of docs/ to build/documentation, adds a page generated from the commands' declarations
and a live report, and has Zensical build a site of them. It loads nothing from elsewhere, neither when built nor when
read. Its search needs a server (``python -m http.server -d build/documentation/site``).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from attnbench.cli.main import command_reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REPORT = "reports/scaling/index.html"
PAGES: dict[str, dict[str, str] | str] = {
    "Quick start": "index.md",
    "Your kernel": "bring-your-own-kernel.md",
    "Your model": "your-model.md",
    "CI gate": "gate.md",
    "History": "history.md",
    "From Python": "python.md",
    "Many machines": "many-machines.md",
    "Profile": "profile.md",
    "On a GPU": "gpu.md",
    "A live report": "live-report.md",
    "How it is measured": {
        "Methodology": "methodology.md",
        "Precision": "precision.md",
        "Truth": "truth.md",
        "The first minute": "first-minute.md",
        "How often the gate is wrong": "gate-power.md",
        "Soak": "soak.md",
    },
    "Reference": {
        "Commands": "commands.md",
        "File formats and metrics": "file-formats.md",
        "Architecture": "architecture.md",
        "numba/flash": "numba-flash.md",
        "gluon/flash": "gluon-flash.md",
        "Changes": "changelog.md",
    },
}
"""The menu. Pages that do not exist have no entry."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def build(work: Path) -> Path:
    """Copy the pages, and build the site from them.

    Args:
        work: a folder, whose subfolders ``docs`` and ``site`` are replaced.

    Returns:
        The site's first page.

    Raises:
        subprocess.CalledProcessError: if Zensical has a warning or an error, which it has printed.
    """
    pages = work / "docs"
    for old in (pages, work / "site"):
        shutil.rmtree(old, ignore_errors=True)
    lay_out(pages)
    (work / "zensical.toml").write_text(configuration(menu(PAGES, pages)), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    subprocess.run(command, cwd=work, check=True)
    return work / "site" / "index.html"


def lay_out(pages: Path) -> None:
    """Write the Markdown of the site, with all files that it links to."""
    pages.mkdir(parents=True)
    linked: set[str] = {REPORT}
    for page in sorted(DOCS.glob("*.md")):
        (pages / page.name).write_text(within_site(page.read_text("utf-8"), linked), encoding="utf-8")
    for picture in DOCS.glob("*.png"):
        shutil.copy(picture, pages / picture.name)
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")
    (pages / "changelog.md").write_text(within_site(changes, linked), encoding="utf-8")
    (pages / "commands.md").write_text(command_reference(), encoding="utf-8")
    frame = f'<iframe src="{REPORT}" title="The report of scaling" style="width: 100%; height: 80vh"></iframe>'
    about = f"Of the scenario `scaling`, as `attnbench report` writes it: [open it alone]({REPORT})."
    (pages / "live-report.md").write_text(f"# A live report\n\n{about}\n\n{frame}\n", encoding="utf-8")
    for path in sorted(linked):
        (pages / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, pages / path)


def within_site(text: str, linked: set[str]) -> str:
    """Return a page whose links stay within the site: to copies of files outside docs/, and to pages of reports.

    Args:
        text: the page.
        linked: receives the paths of the files to copy.
    """

    def place(link: re.Match[str]) -> str:
        mark, title, target, anchor = link.groups(default="")
        if "://" in target or not target.startswith("../"):
            return link[0]
        path = target.removeprefix("../").replace("/report.md", "/index.html")
        if not (ROOT / path).is_file() or path.endswith(".md"):
            return title  # a folder, or a page whose own links lead on
        linked.add(path)
        return f"{mark}[{title}]({path}{anchor})"

    return _LINK.sub(place, text)


def menu(entries: dict[str, dict[str, str] | str], pages: Path) -> list[dict[str, object]]:
    """Return the menu entries whose pages exist."""
    found: list[dict[str, object]] = []
    for title, entry in entries.items():
        if isinstance(entry, str):
            found += [{title: entry}] if (pages / entry).is_file() else []
        elif inner := menu(dict(entry), pages):
            found.append({title: inner})
    return found


def configuration(nav: list[dict[str, object]]) -> str:
    """Return Zensical's configuration as TOML; strings and lists have the same syntax as in JSON."""
    return "\n".join(
        [
            "[project]",
            'site_name = "attnbench"',
            'site_description = "A benchmarking and profiling harness for attention."',
            'docs_dir = "docs"',
            'site_dir = "site"',
            "use_directory_urls = false",
            f"nav = {_toml(nav)}",
            "[project.theme]",
            "font = false",
            'features = ["navigation.indexes", "content.code.copy", "toc.follow"]',
            "[[project.theme.palette]]",
            'media = "(prefers-color-scheme: light)"',
            'scheme = "default"',
            'toggle = { icon = "lucide/sun", name = "dark" }',
            "[[project.theme.palette]]",
            'media = "(prefers-color-scheme: dark)"',
            'scheme = "slate"',
            'toggle = { icon = "lucide/moon", name = "light" }',
            "",
        ]
    )


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    return json.dumps(value)


if __name__ == "__main__":
    print(build(ROOT / "build" / "documentation"))
