"""Renews the output of commands in the pages under docs/; ``make docs`` runs commands with constant output again.

A block is a fence after a comment that names the command::

    <!-- printed by: attnbench show results/reference/quick.jsonl -->
    ```
    ...
    ```
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(
    r"(<!-- printed by: (?P<command>attnbench [^\n]*?)(?: \| head -(?P<lines>\d+))? -->\n```\n)(.*?)```\n", re.DOTALL
)


def renewed(text: str) -> str:
    """Return a page with the current output of its commands."""
    return _BLOCK.sub(lambda block: f"{block[1]}{printed(block['command'], block['lines'])}```\n", text)


def printed(command: str, lines: str | None = None) -> str:
    """Return the output of an attnbench command as written to a file, or its first ``lines`` lines."""
    name, *words = shlex.split(command)
    assert name == "attnbench"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-m", "attnbench", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8", check=True, timeout=120,
    )  # fmt: skip
    out = [line.rstrip() for line in done.stdout.splitlines()]
    kept = out if lines is None else [*out[: int(lines)], "..."]
    return "".join(f"{line}\n" for line in kept)


def pages() -> list[Path]:
    """Return the pages that have such blocks."""
    return [page for page in sorted([*DOCS.glob("*.md"), ROOT / "README.md"]) if _BLOCK.search(page.read_text("utf-8"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(renewed(page.read_text("utf-8")), encoding="utf-8")
