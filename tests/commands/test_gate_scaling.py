"""``attnbench gate`` on a kernel whose memory became quadratic, although every cell is within tolerance.

The base is a stored run, so that three runs suffice instead of ten for pairs.
"""

from __future__ import annotations

import json

from tests.conftest import Command

LINEAR = """
import numpy as np
from attnbench import attention

@attention("mine/blocked", framework="numpy", dtypes=["float32"])
def blocked(q, k, v, case):
    out = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    for start in range(0, q.shape[2], 64):
        rows = slice(start, start + 64)
        scores = q[:, :, rows] @ k.swapaxes(-1, -2) * case.scale
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, :, rows] = scores / scores.sum(-1, keepdims=True) @ v
    return out
"""
QUADRATIC = LINEAR.replace(
    "    out = np.empty(", "    marks = np.ones((q.shape[2], 3 * q.shape[2]), bool)\n    out = np.empty("
)
SCENARIO = """
description = "Five lengths over a factor of 16, weighed and not timed."
stages = ["agreement", "memory"]
[defaults]
heads = 4
head_dim = 64
dtype = "float32"
[axes]
seqlen = [64, 128, 256, 512, 1024]
"""


def test_quadratic_memory_is_found_while_every_cell_is_within_what_is_tolerated(attnbench: Command) -> None:
    for name, text in (("base.py", LINEAR), ("head.py", QUADRATIC), ("grow.toml", SCENARIO)):
        (attnbench.folder / name).write_text(text)
    quick = ("--threads", "1", "--peaks", "none")
    run = attnbench(
        "run", "grow.toml", "-p", "base.py", "-i", "^mine/", "--replicates", "3", "--out", "b.jsonl", *quick
    )
    assert run.code == 0, run.err
    # head.py defines the same names as the file that the baseline was measured with, and stands in for it.
    sides = ("gate", "--baseline", "b.jsonl", "--head", "head.py", "--rounds", "3", "--confirm", "3")
    done = attnbench(*sides, "--delta", "memory=90%", "--out", "out", "--json")
    assert done.code == 1, done.err
    verdicts = json.loads(done.out)["verdicts"]
    assert {one["verdict"] for one in verdicts if one["metric"] == "memory"} == {"same"}
    (found,) = [one for one in verdicts if one["metric"] == "exponent"]
    assert (found["of"], found["verdict"]) == ("memory", "steeper")
    assert "head adds to peak memory a term that grows as n^" in found["sentence"]
    assert (attnbench.folder / "out" / "runs" / "confirm-1-head.jsonl").is_file(), "it has come back in fresh processes"
