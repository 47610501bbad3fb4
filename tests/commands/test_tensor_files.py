"""A scenario with a user's own tensors: cases that do not fit are skipped, and contents identify a case."""

from __future__ import annotations

import shutil

import numpy as np

from tests.conftest import Command, records_of

SCENARIO = """
stages = ["agreement"]
[defaults]
inputs = "file:mine.npz"
[shapes.whole]
mask = "causal & tensor"
mask_file = "mine.npz"
score_mod = "bias"
bias_file = "mine.npz"
[shapes.longer]
seqlen = 64
[shapes.projected]
operator = "multi_head_attention"
seqlen = 40
"""


def test_a_user_s_own_tensors_are_measured_wherever_they_lie(attnbench: Command) -> None:
    random = np.random.default_rng(0)
    folder = attnbench.folder / "one"
    folder.mkdir()
    q, kv = random.standard_normal((2, 4, 40, 16), np.float32), random.standard_normal((2, 2, 40, 16), np.float32)
    mask, bias = random.random((2, 1, 40, 40)) < 0.6, random.standard_normal((4, 40, 40), np.float32)
    np.savez(folder / "mine.npz", query=q, key=kv, value=kv, attn_mask=mask, bias=bias)
    (folder / "mine.toml").write_text(SCENARIO)
    shutil.copytree(folder, attnbench.folder / "other")
    found = []
    for place in ("one", "other"):
        finished = attnbench(
            "run", f"{place}/mine.toml", "-i", "^naive/numpy$", "-i", "^torch/sdpa$", "--out", f"{place}.jsonl"
        )
        assert finished.code == 0, finished.err
        found.append(records_of(attnbench.folder / f"{place}.jsonl"))
    ids = [{record["case_id"]: record["cell_tags"] for record in records} for records in found]
    assert ids[0] == ids[1]
    for records in found:
        ended = {(record["implementation"], *record["cell_tags"]): record for record in records}
        assert {key: record["status"] for key, record in ended.items()} == {
            (name, tag): status
            for name in ("naive/numpy", "torch/sdpa")
            for tag, status in (("whole", "ok"), ("longer", "skipped"), ("projected", "skipped"))
        }
        assert ended["torch/sdpa", "longer"]["reason"].endswith(
            "q has shape (2, 4, 40, 16), the case says (2, 4, 64, 16)"
        )
    (folder / "mine.npz").write_bytes((folder / "mine.npz").read_bytes() + b"\0")
    resumed = attnbench("run", "--resume", "one.jsonl")
    assert resumed.code == 2
    assert "mine.npz': it holds other bytes than when the run was planned" in resumed.err
    shutil.rmtree(folder)
    for view in (("show", "one.jsonl"), ("compare", "one.jsonl", "other.jsonl")):
        assert attnbench(*view).code in (0, 6), "views need no file"


def test_a_file_that_no_case_fits_ends_the_plan(attnbench: Command) -> None:
    zeros = np.zeros((1, 2, 8, 4), np.float32)
    np.savez(attnbench.folder / "mine.npz", q=zeros, k=zeros, v=zeros)
    refused = attnbench("run", "quick", "-a", "inputs=file:mine.npz")
    assert refused.code == 2
    assert "q has shape (1, 2, 8, 4), the case says" in refused.err
    assert refused.out == ""
