"""Two Ray nodes on this machine, one of which is killed while it measures: each cell is recorded once."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnbench import load
from tests.conftest import PLAIN
from tests.fleet.cluster import Cluster, cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: the extra 'ray'"),
]

SCENARIO = """
stages = ["agreement"]
[axes]
seqlen = [16, 20, 24, 28, 32]
head_dim = [16, 32]
dtype = ["float32", "float64"]
[limits]
time_s = 900
"""
# On the node to be killed, it hangs once some of the node's cases are in the run file, and says so.
PLUGIN = """
import json, os, pathlib, time
import numpy as np
from attnbench import attention
from neighbour import softmax


def has_measured(folder):
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    mine = {line["run_id"] for line in lines if line["kind"] == "part" and line["place"] == "node2 cpu"}
    return sum(line["kind"] == "record" and line["run_id"] in mine for line in lines) >= 6


@attention("mine/hangs", device="cpu", dtypes=["float32", "float64"], framework="numpy")
def hangs(q, k, v, case):
    if folder := os.environ.get("ATTNBENCH_TEST_VICTIM"):
        if has_measured(pathlib.Path(folder)):
            pathlib.Path(folder, "hangs").touch()
            time.sleep(900)
    return softmax(np.einsum("bhqd,bhkd->bhqk", q, k) * case.scale) @ v
"""
NEIGHBOUR = """
import numpy as np


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
"""
RUN = ("run", "sixty.toml", "-i", "^mine", "-i", "naive/numpy", "-i", "naive/torch", "--plugin", "mine.py")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path]]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "sixty.toml").write_text(SCENARIO)
    (folder / "mine.py").write_text(PLUGIN)
    (folder / "neighbour.py").write_text(NEIGHBOUR)
    with cluster({}, {"ATTNBENCH_TEST_VICTIM": str(folder)}) as made:
        yield made, folder


def started(nodes: tuple[Cluster, Path], *words: str) -> subprocess.Popen[str]:
    made, folder = nodes
    return subprocess.Popen(
        [sys.executable, "-m", "attnbench", *words],
        cwd=folder,
        env={**os.environ, **PLAIN, "RAY_ADDRESS": made.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def survived(nodes: tuple[Cluster, Path]) -> tuple[Path, str]:
    """Run sixty cells while the second node is killed; return the run file and the output."""
    made, folder = nodes
    running = started(nodes, *RUN, "--on", "ray", "--out", "run.jsonl")
    until = time.monotonic() + 600
    while not (folder / "hangs").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    made.nodes[1].kill()
    out, err = running.communicate(timeout=600)
    assert (running.returncode, out) == (0, "run.jsonl\n"), err
    return folder / "run.jsonl", err


def test_all_cells_are_there_and_none_twice(survived: tuple[Path, str]) -> None:
    path, said = survived
    records = [line for line in lines_of(path) if line["kind"] == "record"]
    assert len(records) == 60
    assert len({(one["case_id"], one["implementation"]) for one in records}) == 60
    assert {one["status"] for one in records} == {"ok"}
    assert "node2 cpu is lost: " in said


def test_no_case_is_split_and_records_know_their_machine(survived: tuple[Path, str]) -> None:
    path, _ = survived
    parts = {line["run_id"]: line for line in lines_of(path) if line["kind"] == "part"}
    assert sorted(part["place"] for part in parts.values()) == ["node1 cpu", "node2 cpu"]
    frame = load(path)
    assert set(frame["run_id"]) == set(parts), "both have measured"
    assert frame.groupby("case_id")["run_id"].nunique().max() == 1
    assert frame["machine_key"].nunique() == 1


def test_commands_name_the_plugin_as_it_lies_here(survived: tuple[Path, str]) -> None:
    path, _ = survived
    repro = next(line["repro"] for line in lines_of(path) if line.get("implementation") == "mine/hangs")
    assert str(path.with_name("mine.py")) in repro


def test_a_run_goes_on_with_the_machines_that_are_there(
    nodes: tuple[Cluster, Path], survived: tuple[Path, str]
) -> None:
    path, _ = survived
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"kind":"footer"' not in line][:-4]
    (path.parent / "short.jsonl").write_text("".join(kept))
    resumed = started(nodes, "run", "--resume", "short.jsonl")
    _, err = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, err
    records = [line for line in lines_of(path.parent / "short.jsonl") if line["kind"] == "record"]
    assert len({(one["case_id"], one["implementation"]) for one in records}) == len(records) == 60


def test_other_versions_are_refused(nodes: tuple[Cluster, Path], survived: tuple[Path, str]) -> None:
    path, _ = survived
    head, *rest = lines_of(path)
    head["environment"]["versions"]["numpy"] = "1.0"
    (path.parent / "old.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [head, *rest[:-9]]))
    refused = started(nodes, "run", "--resume", "old.jsonl")
    _, err = refused.communicate(timeout=600)
    assert refused.returncode == 2
    assert "the machines are not alike: numpy is 1.0 on old.jsonl, " in err


def test_a_client_of_the_cluster_measures_there_with_times(
    nodes: tuple[Cluster, Path], survived: tuple[Path, str]
) -> None:
    made, folder = nodes
    one = ("run", "-i", "naive/numpy", "-a", "seqlen=16", "--peaks", "none", "--out", "client.jsonl")
    done = started(nodes, *one, "--on", made.client)
    _, err = done.communicate(timeout=600)
    assert done.returncode == 0, err
    header, part, record, footer = lines_of(folder / "client.jsonl")
    assert (header["request"]["on"], part["place"]) == (made.client, "node1 cpu")
    assert part["aa_ratio"] > 0
    assert part["engine_cores"] >= 0
    assert (record["status"], record["run_id"]) == ("ok", part["run_id"])
    assert footer["shares"]["engine_s"] >= 0


def test_a_device_that_no_node_offers_is_refused(nodes: tuple[Cluster, Path]) -> None:
    refused = started(
        nodes, "run", "-i", "naive/torch", "-a", "seqlen=16", "-d", "cuda", "--on", "ray", "--out", "no.jsonl"
    )
    _, err = refused.communicate(timeout=600)
    assert (refused.returncode, "no node offers cuda" in err) == (2, True), err
    assert not (nodes[1] / "no.jsonl").exists()


def test_where_nobody_listens_that_is_told_at_once(nodes: tuple[Cluster, Path]) -> None:
    refused = started(nodes, "run", "-i", "naive/numpy", "-a", "seqlen=16", "--on", "ray://127.0.0.1:1")
    _, err = refused.communicate(timeout=600)
    assert (refused.returncode, "nobody answers at ray://127.0.0.1:1" in err) == (2, True), err
