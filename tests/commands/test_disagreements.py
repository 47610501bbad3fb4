"""``check`` on a kernel that disagrees in many cases: prints the first, common properties, and the simplest."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from attnbench import Case, make_case
from attnbench.api.disagreements import IN_FULL, Disagreements, in_common, special
from attnbench.store.record import Record
from tests.conftest import Command, records_of
from tests.views.conftest import record

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
CAUSE = "; a guess at the cause: it is this"
AXES = ("-a", "heads=2", "-a", "seqlen=16,24", "-a", "head_dim=32,40,64,72", "-a", "mask=none,causal")


def test_many_disagreements_become_a_few_lines_and_a_command_that_shows_one_again(attnbench: Command) -> None:
    (attnbench.folder / "kernel.py").write_text(KERNEL)
    checked = attnbench("check", "--plugin", "kernel.py", "-i", "mine", *AXES)
    assert checked.code == 1
    lines = checked.err.splitlines()
    assert sum(line.startswith("wrong: mine/fixed") for line in lines) == IN_FULL
    at = lines.index("mine/fixed disagrees in 12 of the 16 cases that it was judged on")
    assert lines[at + 1].startswith("    a guess at the cause of ")
    assert lines[at + 1].endswith("of them: it is what the case gives with the scale of head_dim 64")
    assert lines[at + 2] == "    all of them have head_dim other than 64; none that agrees has it"
    simplest = next(line for line in lines[at:] if line.startswith("    the simplest"))
    assert simplest.startswith("    the simplest (keys that end 16 into a tile of 64): wrong: mine/fixed, forward")
    first = next(number for number, line in enumerate(lines) if line.startswith("wrong: mine/fixed"))
    assert lines[first + 1].startswith("    a guess at the cause: ")
    assert lines[first + 2].startswith("    out: error ")
    what = simplest[simplest.index("out: error ") :]
    assert "times its budget" in what
    assert "worst at batch 0, head " in what
    command = lines[lines.index(simplest) + 1]
    again = attnbench(*shlex.split(command)[1:], "--peaks", "none")
    assert again.code == 1
    assert what in again.err


def wrong(tokens: int, reason: str) -> tuple[Case, Record]:
    case = make_case(seqlen_q=tokens)
    fields = record(case, "a/a", status="wrong", stage="agreement", reason=reason)
    return case, Record(**{name: value for name, value in fields.items() if name != "kind"})


def test_the_simplest_is_one_whose_cause_is_guessed() -> None:
    found = Disagreements()
    for tokens, guess in (
        (16, ""),
        (64, "; a guess at the cause: it is rare"),
        (128, CAUSE),
        (32, CAUSE),
        (256, CAUSE),
    ):
        found.saw(*wrong(tokens, f"out: error 1 is 2 times its budget 0.5{guess}"))
    _, cause, _, simplest = found.summary()
    assert cause == "    a guess at the cause of 3 of them: it is this"
    assert simplest.startswith("    the simplest (keys that end 32 into a tile of 64): wrong: a/a, forward b1 h8 s32 ")
    assert "it is this" not in simplest, "it is told already"


def test_without_any_guess_it_is_the_shortest_case() -> None:
    found = Disagreements()
    for tokens in (64, 16, 32):
        found.saw(*wrong(tokens, "out: error 1 is 2 times its budget 0.5"))
    *_, simplest = found.summary()
    assert " s16 " in simplest


def test_a_kernel_may_end_at_its_first_disagreement(attnbench: Command) -> None:
    (attnbench.folder / "kernel.py").write_text(KERNEL)
    names = ("-i", "mine", "-i", "naive/torch")
    checked = attnbench("check", "--plugin", "kernel.py", *names, *AXES, "--stop-at-first", "--out", "run.jsonl")
    lines = [line for line in checked.err.splitlines() if line.split()[1:2] == ["skipped"]]
    assert not lines, "what was stopped is counted, not listed"
    assert checked.code == 1
    statuses: dict[str, list[str]] = {}
    for one in records_of(attnbench.folder / "run.jsonl"):
        statuses.setdefault(one["implementation"], []).append(one["status"])
    assert statuses["naive/torch"] == ["ok"] * 16
    own = statuses["mine/fixed"]
    assert own.count("wrong") == 1
    assert own[own.index("wrong") + 1 :] == ["skipped"] * own.count("skipped")
    assert own.count("skipped") > 0


def cases(**differences: list[object]) -> list[Case]:
    """Return a case for each value of the only field that differs."""
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


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, ""),
        (
            {"seqlen_q": 5, "seqlen_kv": 128, "mask": "causal", "alignment": "bottom_right"},
            "fewer queries than keys, bottom_right, causal",
        ),
        (
            {"seqlen_q": 1, "seqlen_kv": 65, "heads_kv": 2},
            "one query, keys that end 1 into a tile of 64, 4 query heads for each key head",
        ),
        (
            {"head_dim": 80, "batch": 2, "strides": "sliced"},
            "head_dim 80, no power of 2, several batch elements, strides sliced",
        ),
    ],
)
def test_what_is_special_in_a_case_is_told(fields: dict[str, Any], said: str) -> None:
    assert special(make_case(**{"seqlen_q": 128, **fields})) == said


def test_a_cell_that_has_run_is_a_line_off_the_terminal(attnbench: Command) -> None:
    (attnbench.folder / "kernel.py").write_text(KERNEL)
    checked = attnbench("check", "--plugin", "kernel.py", "-i", "mine", "-a", "heads=2", "-a", "seqlen=16",
                        "-a", "dtype=float32,float16")  # fmt: skip
    told = [line for line in checked.err.splitlines() if "/1  " in line]
    assert told == ["1/1  ok  mine/fixed  forward b1 h2 s16 d64 float32"]
