"""Commands without a path or a case use the latest run, and a case small enough to inspect."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Command

STORED = REPOSITORY / "results/reference"


@pytest.fixture
def two_runs(attnbench: Command) -> Command:
    """Return a command in a folder with two runs, of which the later comes first by name."""
    folder = attnbench.folder / "results/runs"
    folder.mkdir(parents=True)
    for name, source, written_s in (("a", "cpu-race", 2_000), ("b", "cpu-decode", 1_000)):
        path = folder / f"{name}.jsonl"
        path.write_bytes((STORED / f"{source}.jsonl").read_bytes())
        os.utime(path, (written_s, written_s))
    return attnbench


@pytest.mark.parametrize("verb", ["show", "compare", "report"])
def test_a_view_without_a_path_is_of_the_latest_run(two_runs: Command, verb: str) -> None:
    ended = two_runs(verb)
    assert ended.code == 0
    assert ended.err == "attnbench: the latest run is results/runs/a.jsonl\n"
    assert ended.out == two_runs(verb, "results/runs/a.jsonl", *(["--force"] if verb == "report" else [])).out


@pytest.mark.parametrize(
    ("verb", "of", "found"), [("show", "profile", "a"), ("show", "check", "of"), ("compare", "check", "a")]
)
def test_which_runs_are_passed_over(two_runs: Command, verb: str, of: str, found: str) -> None:
    """A profile's own run is never the latest; a check's run has no times to compare."""
    path = two_runs.folder / "results/runs/of.jsonl"
    header, _, rest = (STORED / "quick.jsonl").read_text().partition("\n")
    path.write_text(json.dumps({**json.loads(header), "command": ["attnbench", of, "quick"]}) + "\n" + rest)
    assert two_runs(verb).err == f"attnbench: the latest run is results/runs/{found}.jsonl\n"


@pytest.mark.parametrize("verb", ["show", "compare", "report"])
def test_without_any_run_it_is_told_how_to_make_one(attnbench: Command, verb: str) -> None:
    ended = attnbench(verb)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "attnbench: which run? results/runs has none yet; attnbench run quick makes one\n"


def test_a_path_that_is_empty_is_not_the_latest_run(two_runs: Command) -> None:
    """``show "$RUN"`` with a variable that is not set."""
    assert two_runs("show", "").code == 2


def test_inspect_without_a_case_shows_a_small_one(attnbench: Command) -> None:
    page = Path(attnbench("inspect").out.strip())
    case = json.loads((attnbench.folder / page.parent / "inspection.json").read_text())["case"]
    assert (case["seqlen_q"], case["heads_q"], case["mask"]) == (64, 2, "causal")


WRONG = """
from attnbench import attention

@attention("mine/no-scale", masks=["causal"])
def kernel(q, k, v, case):
    scores = (q @ k.transpose(-1, -2)).masked_fill(~q.new_ones(64, 64).tril().bool(), -float("inf"))
    return scores.softmax(-1) @ v
"""


def test_inspect_says_on_the_terminal_and_first_on_the_page_what_is_wrong(attnbench: Command) -> None:
    (attnbench.folder / "kernel.py").write_text(WRONG)
    ended = attnbench("inspect", "-p", "kernel.py", "-i", "^mine/")
    assert ended.code == 1, ended.err
    first, cause, what, again = ended.err.splitlines()
    assert first == "wrong: mine/no-scale:"
    assert cause.endswith("a guess at the cause: it is what the case gives if scores are not scaled")
    assert what.startswith("    out: error ")
    assert again.startswith("    attnbench run -i '^mine/no-scale$' --plugin ")
    page = (attnbench.folder / Path(ended.out.strip()).parent / "report.md").read_text()
    assert 0 < page.index("## Implementations") < page.index("## Who sees whom")
