"""Generates the table of metrics in docs/file-formats.md from their declarations, for ``make docs``."""

from __future__ import annotations

from pathlib import Path

from attnbench.store.record import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "file-formats.md"
BEGIN, END = "<!-- metrics: written by `make docs` -->\n", "<!-- end of metrics -->\n"


def table() -> str:
    """Return the table: one line per metric, in the order of a record's fields."""
    lines = ["| metric | unit | stage | joined by | ok cells only | is |", "|---|---|---|---|---|---|"]
    for metric in METRICS.values():
        joined = metric.join.replace("_", " ")
        only = "yes" if metric.only_ok else ""
        lines.append(f"| `{metric.name}` | {metric.unit} | {metric.stage} | {joined} | {only} | {metric.description} |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    """Return the page before the table, the table, and the page after it."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    written, behind = rest.split(END)
    return before + BEGIN, written, END + behind


if __name__ == "__main__":
    before, _, behind = parts()
    PAGE.write_text(before + table() + behind, encoding="utf-8")
