"""Estimates are based on the times of cells in earlier runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from attnbench.api.progress import Log
from attnbench.api.selection import CellSelection
from attnbench.registry.discover import bundled
from attnbench.runner.planning import paces as paces_module
from attnbench.runner.planning.paces import START_S, Paces, paces_of, whole_s
from attnbench.runner.planning.plan import Cell
from attnbench.runner.planning.request import Request, plan_request
from attnbench.views.answer.plan import plan_view
from attnbench.views.document import Table
from tests.conftest import REPOSITORY
from tests.odd_files import ODD, make_odd

STORED = REPOSITORY / "results/reference/quick.jsonl"
MULTI_HEAD = "naive/numpy-multi-head"
NAMES = ("torch/sdpa", MULTI_HEAD)


@pytest.fixture(scope="module")
def stored() -> list[dict[str, Any]]:
    return [json.loads(line) for line in STORED.read_text().splitlines()]


@pytest.fixture
def request_(stored: list[dict[str, Any]]) -> Request:
    return CellSelection.of("quick", threads=stored[0]["threads"]).request(Log(progress=False))


def cells_of(request: Request) -> list[Cell]:
    return plan_request(request, [one for one in bundled() if one.name in NAMES])


def test_a_cell_is_expected_to_take_what_it_took(
    tmp_path: Path, request_: Request, stored: list[dict[str, Any]]
) -> None:
    shutil.copy(STORED, tmp_path)
    paces, sampling_s = paces_of(request_, tmp_path), request_.sampling_s
    took = {(one["case_id"], one["implementation"]): one["wall_s"] for one in stored if one["kind"] == "record"}
    running = [cell for cell in cells_of(request_) if cell.preset_outcome is None]
    for cell in running:
        assert paces.estimate_s(cell, sampling_s) == took[cell.case.case_id, cell.found.name]
    whole = sum(paces.estimate_s(cell, sampling_s) for cell in running) + len(NAMES) * START_S
    assert whole_s(cells_of(request_), paces, sampling_s) == pytest.approx(whole)


def test_the_runs_that_were_written_last_tell_whatever_they_are_called(
    tmp_path: Path, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paces_module, "_MOST_RUNS", 1)
    shutil.copyfile(STORED, tmp_path / "20261128.jsonl")
    (tmp_path / "quick.jsonl").write_text(STORED.read_text().splitlines()[0] + "\n")
    os.utime(tmp_path / "quick.jsonl", (1e9, 1e9))
    assert paces_of(request_, tmp_path).cells


def test_another_case_is_expected_at_the_pace_of_its_implementation(tmp_path: Path, request_: Request) -> None:
    shutil.copy(STORED, tmp_path)
    paces = paces_of(request_, tmp_path)
    asked = CellSelection.of("quick", axis=["seqlen=192"], threads=request_.threads).request(Log(progress=False))
    cell = next(one for one in cells_of(asked) if one.found.name == MULTI_HEAD and one.preset_outcome is None)
    expected = Paces().estimate_s(cell, asked.sampling_s) * paces.factors[MULTI_HEAD]
    assert paces.estimate_s(cell, asked.sampling_s) == pytest.approx(expected)
    assert paces.factors[MULTI_HEAD] != 1


def test_runs_of_other_settings_and_files_that_are_none_tell_nothing(tmp_path: Path, request_: Request) -> None:
    header, _, rest = STORED.read_text().partition("\n")
    changed = json.loads(header)
    changed["request"]["threads"] += 1
    (tmp_path / "other.jsonl").write_text(json.dumps(changed) + "\n" + rest)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "list.jsonl").write_text("[]\n[]\n")
    (tmp_path / "half.jsonl").write_text(header + '\n{"kind": "record", "status": "ok"}\n{"kind"')
    for kind in ODD:
        make_odd(kind, tmp_path / f"{kind}.jsonl")
    assert paces_of(request_, tmp_path) == Paces()


def test_a_plan_is_sorted_and_counts_what_cannot_run(
    request_: Request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    view = plan_view(request_, cells_of(request_))
    running = [str(row["implementation"]) for row in view.rows if row["status"] is None]
    assert running == sorted(running)
    (table,) = [block for block in view.blocks if isinstance(block, Table)]
    assert len(table.rows) == len(running) < len(view.rows)
    sentence = str(view.facts["sentence"])
    assert sentence.startswith(f"{len(running)} cells to run, about ")
    assert sentence.endswith(f"; of {len(view.rows)} cells {len(view.rows) - len(running)} unsupported")
    alone = plan_view(request_, cells_of(request_)[:1])
    assert "1 cell " in str(alone.facts["sentence"])


@pytest.mark.parametrize(
    "gone",
    [
        {"mask": "block_sparse", "mask_blocks": "file:/gone.npz"},
        {"mask": "tensor", "mask_file": "/gone.npz"},
    ],
    ids=["blocks", "mask"],
)
def test_a_case_whose_file_is_gone_tells_nothing(
    tmp_path: Path, request_: Request, stored: list[dict[str, Any]], gone: dict[str, str]
) -> None:
    """Not even about an implementation that ran nothing else."""
    record = next(one for one in stored if one["kind"] == "record" and one["status"] == "ok")
    lines = (json.dumps(line) for line in (stored[0], {**record, "mask": None, **gone}))
    (tmp_path / "gone.jsonl").write_text("\n".join(lines) + "\n")
    assert paces_of(request_, tmp_path) == Paces()
