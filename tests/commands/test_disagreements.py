"""``check`` on a kernel that disagrees in many cases: the first ones, their common properties, the simplest."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from attnbench import Case, make_case
from attnbench.api.disagreements import IN_FULL, in_common
from tests.conftest import Command

KERNEL = """
import torch
from attnbench import attention

@attention("mine/fixed", dtypes=["float32"], masks=["none", "causal"], gqa=True)
def fixed(q, k, v, case):
    k, v = (x.repeat_interleave(case.heads_q // case.heads_kv, 1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) / 8
    if case.mask == "causal":
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
    return scores.softmax(-1) @ v
"""
AXES = ("-a", "heads=2", "-a", "seqlen=16,24", "-a", "head_dim=32,40,64,72", "-a", "mask=none,causal")


def test_many_disagreements_become_a_few_lines_and_a_command_that_shows_one_again(attnbench: Command) -> None:
    (attnbench.folder / "kernel.py").write_text(KERNEL)
    checked = attnbench("check", "--plugin", "kernel.py", "-i", "mine", *AXES)
    assert checked.code == 1
    lines = checked.err.splitlines()
    assert sum(line.startswith("wrong: mine/fixed") for line in lines) == IN_FULL
    at = lines.index("mine/fixed disagrees in 12 of the 16 cases that it was judged on")
    assert lines[at + 1] == "    all of them have head_dim other than 64; none that agrees has it"
    simplest = next(line for line in lines[at:] if line.startswith("    the simplest: wrong: mine/fixed, forward"))
    what, guess, command = lines[lines.index(simplest) + 1 :][:3]
    assert what.startswith("    out: error ")
    assert "times its budget" in what
    assert "worst at batch 0, head " in what
    assert guess == "    a guess at the cause: it is what the case gives with the scale of head_dim 64"
    again = attnbench(*shlex.split(command)[1:], "--peaks", "none")
    assert again.code == 1
    assert what in again.err


def cases(**differences: list[object]) -> list[Case]:
    """A case for each value of the only field that differs."""
    [(name, values)] = differences.items()
    return [make_case(**{"seqlen_q": 64, name: value}) for value in values]


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        (cases(mask=["causal"]), cases(mask=["none", "prefix_lm"]), "all of them have mask = causal"),
        (cases(seqlen_kv=[128, 192]), cases(seqlen_kv=[64]), "all of them have seqlen_q unlike seqlen_kv"),
        (cases(head_dim=[160, 256]), cases(head_dim=[64, 128]), "all of them have head_dim > 128"),
        (cases(batch=[2, 3]), cases(batch=[1]), "all of them have batch > 1"),
    ],
)
def test_what_all_wrong_cases_share_and_few_right_ones_have_is_said(
    wrong: list[Case], right: list[Case], said: str
) -> None:
    assert any(sentence.startswith(said) for sentence in in_common(wrong, right))


def test_what_most_right_cases_have_too_is_not_said() -> None:
    assert not list(in_common(cases(dtype=["float32"]), cases(seed=[1, 2])))


def test_a_kernel_that_is_never_right_has_nothing_to_compare_with() -> None:
    assert list(in_common(cases(batch=[1, 2]), [])) == ["no case agrees"]


def test_a_single_disagreement_is_not_told_twice(attnbench: Command) -> None:
    (attnbench.folder / "kernel.py").write_text(KERNEL)
    checked = attnbench("check", "--plugin", "kernel.py", "-i", "mine", "-a", "seqlen=16", "-a", "head_dim=32,64")
    assert checked.err.count("a guess at the cause") == 1
    assert "that it was judged on" not in checked.err
    assert (attnbench.folder / Path(checked.out.strip())).exists()
