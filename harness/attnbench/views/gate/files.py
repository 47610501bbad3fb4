"""Writes a gate's result in every form next to its run files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attnbench.views.document import markdown
from attnbench.views.gate.annotations import workflow_commands
from attnbench.views.gate.exports import bencher, github_action_benchmark
from attnbench.views.gate.junit import junit
from attnbench.views.gate.table import gate_view

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.gate.verdict import GateResult


def write_results(result: GateResult, folder: Path) -> None:
    """Write gate.json, gate.md, junit.xml, annotations.txt, github-action-benchmark.json and bencher.json."""
    written = {
        "gate.json": result.model_dump_json(indent=2),
        "gate.md": markdown(gate_view(result)),
        "junit.xml": junit(result),
        "annotations.txt": workflow_commands(result),
        "github-action-benchmark.json": json.dumps(github_action_benchmark(result), indent=2),
        "bencher.json": json.dumps(bencher(result), indent=2),
    }
    for name, text in written.items():
        (folder / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
