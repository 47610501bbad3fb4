"""A notebook's cells as one script; ``test_session.py`` reads its findings."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import attnbench

functions = [attnbench.run, attnbench.check, attnbench.compare, attnbench.report, attnbench.inspect, attnbench.show]
imported = {name.partition(".")[0] for name in sys.modules}

import kernel  # type: ignore[import-not-found]  # noqa: E402 - a neighbour, which defines implementations

small = {"seqlen": [16, 24, 32], "heads": 2, "head_dim": 8}
run = attnbench.run(
    include=["^naive/numpy$", "^mine/plain$"], plugin=kernel.plain, axis=small, threads=1, peaks="none", out="run.jsonl"
)
found: dict[str, object] = {
    "imported": sorted(imported),
    "path": str(run.path),
    "ok": [run.ok, run.exit_code, run.counts],
    "command": run.file.header.command,
    "messages": list(run.messages),
    "text": repr(run),
    "html": run._repr_html_(),
    "columns": list(run.frame.columns),
    "loaded": list(attnbench.load("run.jsonl").columns),
    "medians": list(run.frame["time_median_ns"]),
}

checked = attnbench.check(include="mine/wrong", plugin="kernel.py:mine/wrong", axis=["seqlen=16"], out="wrong.jsonl")
found["checked"] = [checked.ok, checked.exit_code, list(checked.messages), list(checked.frame["status"])]

planned = attnbench.plan(include="^naive/numpy$", axis=small)
found["planned"] = [repr(planned), list(planned.frame["implementation"])]

compared = attnbench.compare("run.jsonl", baseline="naive/numpy")
found["compared"] = [compared.ok, repr(compared), list(compared.frame["implementation"])]

shown = attnbench.show("run.jsonl", baseline="naive/numpy")
found["shown"] = [shown.counts, "speed-up" in repr(shown)]

report = attnbench.report("run.jsonl", out="report")
found["report"] = [str(report.path), report.path.exists(), len(report.frame), repr(report)]

inspection = attnbench.inspect(include="mine/wrong", plugin=kernel.wrong, axis={"seqlen": 16, "heads": 2}, out="in")
found["inspection"] = [
    str(inspection.path), inspection.ok, list(inspection.frame["status"]), inspection._repr_html_().count("<img "),
]  # fmt: skip

refused: dict[str, str] = {}
mistakes: dict[str, Callable[[], object]] = {
    "scenario": lambda: attnbench.run("quik"),
    "again": lambda: attnbench.run(include="^naive/numpy$", axis=small, out="run.jsonl"),
    "missing": lambda: attnbench.show("missing.jsonl"),
    "device": lambda: attnbench.check(device="tpu", axis=small),
    "both": lambda: attnbench.compare("run.jsonl", "run.jsonl", baseline="naive/numpy"),
}
for name, ask in mistakes.items():
    try:
        ask()
    except attnbench.UsageError as error:
        refused[name] = str(error)
found["refused"] = refused

Path("found.json").write_text(json.dumps(found))
