"""Real rounds: two sides in their own processes, taking turns."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from pathlib import Path

import pytest

from attnbench.gate.judge.cell_data import observe
from attnbench.gate.measure.rounds import GateError, Round, run_rounds
from attnbench.gate.measure.side import Side
from attnbench.runner.planning.request import Request
from attnbench.sweep.model import Scenario

pytestmark = pytest.mark.slow

KERNEL = """
import os
from pathlib import Path
import numpy as np
from attnbench import attention

CALLS = Path(__file__).parent.parent / "calls"

@attention("mine/kernel", framework="numpy", dtypes=["float32"])
def kernel(q, k, v, case):
    with CALLS.open("a") as file:
        file.write(f"{Path(__file__).parent.name} {os.getpid()}\\n")
    scores = case.scale * (q @ k.swapaxes(-1, -2))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return WEIGHED
"""
SOUND = "(weights / weights.sum(-1, keepdims=True)) @ v"


class Silent:
    def begins(self, what: str) -> None: ...

    def ended(self) -> None: ...


def a_side(folder: Path, name: str, weighed: str = SOUND) -> Side:
    plugin = folder / name / "kernel.py"
    plugin.parent.mkdir()
    plugin.write_text(KERNEL.replace("WEIGHED", weighed))
    return Side(
        label=name, kind="plugin", commit=None, python=sys.executable, folder=str(plugin.parent),
        plugins=(str(plugin),), identity=name, dependencies="shared",
    )  # fmt: skip


def rounds_of(folder: Path, base: Side, head: Side, count: int, cells: tuple[str, ...] = ()) -> list[Round]:
    scenario = Scenario.from_dict(
        {
            "name": "two",
            "implementations": ["^mine/"],
            "stages": ["agreement", "time"],
            "limits": {"min_samples": 12, "max_samples": 12, "sampling_s": 5},
            "shapes": {"small": {"seqlen": 64, "heads": 2}, "large": {"seqlen": 96, "heads": 2}},
        }
    )
    request = Request(
        scenario=scenario, overrides={}, include=(), exclude=(), plugins=(), devices=("cpu",), threads=1,
        replicates=1, seed=0, cache="warm", stages=("agreement", "time"),
    )  # fmt: skip
    return run_rounds("screen", count, {"base": base, "head": head}, request, folder / "runs", Silent(), cells=cells)


def test_both_sides_take_turns_within_each_cell_and_every_round_has_fresh_processes(tmp_path: Path) -> None:
    rounds = rounds_of(tmp_path, a_side(tmp_path, "base"), a_side(tmp_path, "head"), 2)
    for cell in observe(rounds).values():
        assert cell.base.status == cell.head.status == "ok"
        for record in (*cell.base.records, *cell.head.records):
            assert record is not None
            assert len(record["time_samples_ns"]) == 12
    calls = (tmp_path / "calls").read_text().split("\n")[:-1]
    turns = sum(one != other for one, other in itertools.pairwise(calls))
    cells_of_rounds = 2 * 2
    assert turns >= cells_of_rounds * 6  # number of blocks; side after side there would be one per cell
    assert len(set(calls)) == 4  # two sides, two rounds


def test_what_is_wrong_in_a_late_process_only_is_found(tmp_path: Path) -> None:
    base, head = a_side(tmp_path, "base"), a_side(tmp_path, "head")
    (first,) = rounds_of(tmp_path, base, head, 1)
    assert {record["status"] for record in first.head.records} == {"ok"}
    calls = (tmp_path / "calls").read_text().count("head")
    later = f"({SOUND}) * (1 + (CALLS.read_text().count('head') > {calls}))"
    Path(head.plugins[0]).write_text(KERNEL.replace("WEIGHED", later))
    head = dataclasses.replace(head, identity="another")
    rounds = rounds_of(tmp_path, base, head, 2)  # the first one is kept
    assert {cell.head.status for cell in observe(rounds).values()} == {"wrong"}
    assert {cell.base.status for cell in observe(rounds).values()} == {"ok"}


def test_a_complete_round_is_kept_and_an_interrupted_one_is_made_again(tmp_path: Path) -> None:
    base, head = a_side(tmp_path, "base"), a_side(tmp_path, "head")
    rounds_of(tmp_path, base, head, 2)
    kept, torn = (tmp_path / "runs" / f"screen-{number}-head.jsonl" for number in (1, 2))
    before = kept.read_bytes()
    torn.write_text("".join(torn.read_text().splitlines(keepends=True)[:-2]))
    before_id = json.loads(torn.read_text().splitlines()[0])["run_id"]
    again = rounds_of(tmp_path, base, head, 2)
    assert kept.read_bytes() == before
    assert again[1].head.is_complete
    assert again[1].head.header.run_id != before_id


def test_a_side_that_has_none_of_the_cells_leaves_the_other_to_itself(tmp_path: Path) -> None:
    head = a_side(tmp_path, "head")
    plugin = Path(head.plugins[0])
    plugin.write_text(plugin.read_text().replace("mine/kernel", "mine/renamed"))
    (one,) = rounds_of(tmp_path, a_side(tmp_path, "base"), head, 1)
    assert [record["implementation"] for record in one.base.records] == ["mine/kernel"] * 2
    assert [record["implementation"] for record in one.head.records] == ["mine/renamed"] * 2


def test_a_plugin_that_is_edited_while_the_gate_runs_ends_it(tmp_path: Path) -> None:
    edits_itself = f"(open(__file__, 'a').write('#'), {SOUND})[1]"
    with pytest.raises(GateError, match=r"head/kernel.py changed while the gate ran: start it again"):
        rounds_of(tmp_path, a_side(tmp_path, "base"), a_side(tmp_path, "head", edits_itself), 1)


def test_a_side_that_cannot_be_planned_is_told_with_its_own_words(tmp_path: Path) -> None:
    head = a_side(tmp_path, "head")
    Path(head.plugins[0]).write_text("x = 1\n")
    with pytest.raises(GateError, match=r"head could not be measured: .* defines no implementation"):
        rounds_of(tmp_path, a_side(tmp_path, "base"), head, 1)
