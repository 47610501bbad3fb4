"""The site: the same Markdown that reads well on the forge, and a reference that the commands write themselves.

``make docs`` lays the pages of docs/ out in build/documentation, beside a page that the commands' declarations make and
a live report, and has Zensical build a site of them. It loads nothing from elsewhere, neither when built nor when read;
its search needs a server (``python -m http.server -d build/documentation/site``).
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
"""The menu. A page that is not there has no entry."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def build(work: Path) -> Path:
    """Lay out the pages, and build the site of them.

    Args:
        work: a folder, whose subfolders ``docs`` and ``site`` are made anew.

    Returns:
        The site's first page.

    Raises:
        subprocess.CalledProcessError: when Zensical has a warning or an error, which it has printed.
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
    """The Markdown of the site, with everything that it links to."""
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
    """A page whose links stay within the site: of what lies outside of docs/ the site has a copy, of a report its page.

    Args:
        text: the page.
        linked: takes the paths of what is to be copied.
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
    """The entries whose pages are there."""
    found: list[dict[str, object]] = []
    for title, entry in entries.items():
        if isinstance(entry, str):
            found += [{title: entry}] if (pages / entry).is_file() else []
        elif inner := menu(dict(entry), pages):
            found.append({title: inner})
    return found


def configuration(nav: list[dict[str, object]]) -> str:
    """Zensical's configuration; JSON of strings and lists is TOML, too, but for the tables within."""
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
