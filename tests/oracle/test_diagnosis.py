"""Guesses at the cause of a disagreement, for mutants whose mistake is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from attnbench import Case, make_case
from attnbench.mutants.collection import mutants
from attnbench.oracle.answer.arithmetic import EXACT
from attnbench.oracle.answer.reference import reference
from attnbench.oracle.diagnosis import guess
from attnbench.oracle.judge import find_truth, judge
from attnbench.oracle.selection import requests, select
from attnbench.stages.agreement import Show
from attnbench.stages.call import FirstCalls
from attnbench.stages.prepare import Prepare
from attnbench.worker.worker import Worker

MUTANTS = {mutant.name: mutant for mutant in mutants()}
MANY_QUERIES = {
    "mode": "backward", "dtype": "bfloat16", "heads_q": 1, "seqlen_q": 32768, "seqlen_kv": 16, "head_dim": 8,
    "strides": "summed",
}  # fmt: skip
CROSS = {"seqlen_q": 37, "seqlen_kv": 131, "mask": "causal"}
WINDOW = {"mask": "sliding_window", "window_left": 15, "window_right": 3, "inputs": "needle"}
BLOCKS = {"mask": "block_sparse", "mask_block_size": 16, "mask_blocks": "random:30%:0"}
PACK: dict[str, Any] = {"seqlen_q": 15, "requests": "q5_3q1s40_q7s65"}
GUESSES: list[tuple[str, dict[str, Any], str]] = [
    ("top-left-for-bottom-right", {**CROSS, "alignment": "bottom_right"}, "with alignment top_left"),
    ("bottom-right-for-top-left", CROSS, "with alignment bottom_right"),
    ("causal-ignored", {"mask": "causal"}, "it is what the case gives without its mask (causal)"),
    ("causal-one-beyond", {"mask": "causal"}, "if a query sees one key beyond its own position"),
    ("causal-without-diagonal", {"mask": "causal"}, "if a query does not see its own position"),
    ("window-left-wider", WINDOW, "with window_left = 16 instead of 15"),
    ("window-right-exclusive", WINDOW, "with window_right = 2 instead of 3"),
    ("window-mirrored", WINDOW, "with left and right of the window exchanged"),
    ("prefix-ignored", {"mask": "prefix_lm", "prefix_len": 33}, "with a causal mask, without the prefix"),
    ("padding-one-short", {"mask": "key_padding", "inputs": "needle"}, "if the last real key is not seen"),
    ("causal-ignored", {"mask": "causal & key_padding"}, "it is what the case gives without its mask (causal)"),
    (
        "padding-one-short",
        {"mask": "causal & key_padding", "inputs": "needle"},
        "it is what the case gives if the last real key is not seen",
    ),
    ("causal-one-beyond", {"mask": "causal & key_padding"}, "if a query sees one key beyond its own position"),
    ("requests-one-key-late", PACK, "if the keys of a request end one key late"),
    ("requests-see-each-other", PACK, "if requests see each other, below one diagonal"),
    ("tree-as-causal", {"mask": "tree"}, "with a causal mask, so that a draft sees all drafts before it"),
    ("tensor-inverted", {"mask": "tensor"}, "if True in the mask hides a key"),
    ("tensor-transposed", {"mask": "causal & tensor"}, "with the mask transposed"),
    ("tensor-of-first-sequence", {"mask": "tensor", "batch": 2}, "with the mask of the first sequence for all"),
    ("blocks-of-neighbour", BLOCKS, "if each block of queries has the list of the next one"),
    ("blocks-one-beyond", BLOCKS, "if indices of blocks are one too high"),
    ("last-block-dropped", BLOCKS, "if the last block of each list is left out"),
    ("blocks-transposed", BLOCKS, "with the lists transposed"),
    ("blocks-shared-by-two", BLOCKS, "if two blocks of queries share the first one's list"),
    ("blocks-ignored", BLOCKS, "it is what the case gives without its mask (block_sparse)"),
    ("bias-transposed", {"score_mod": "bias"}, "with the bias transposed"),
    ("bias-of-first-sequence", {"score_mod": "bias", "batch": 2}, "with the bias of the first sequence for all"),
    ("bias-of-first-head", {"score_mod": "bias"}, "with the bias of the first head for all"),
    ("bias-missing", {"score_mod": "bias"}, "without bias"),
    ("group-by-modulo", {"heads_q": 6, "heads_kv": 2}, "as when query head h reads key head h % heads_kv"),
    ("weights-in-bfloat16", {}, "in a coarser type than float32"),
    ("scores-stored", {"dtype": "bfloat16", "inputs": "large_logits"}, "declare stores_scores=True"),
    ("causal-one-beyond", {"dtype": "bfloat16", "mask": "causal"}, "if a query sees one key beyond its own position"),
    ("gradients-accumulated-in-their-dtype", MANY_QUERIES, "in a coarser type than float32"),
    ("documents-ignored", {"mask": "document"}, "if documents see each other"),
    ("softcap-missing", {"score_mod": "softcap", "softcap": 2.0}, "without softcap"),
    ("scale-missing", {}, "if scores are not scaled"),
    ("scale-by-head-dim", {}, "if scores are scaled twice"),
    ("scale-without-log2", {}, "with powers of 2 instead of e"),
    ("mean-of-visible-v", {}, "if all visible keys weigh the same"),
    ("lse-in-base2", {}, "to base 2"),
    ("zeros", {}, "out is zero throughout"),
    ("last-row-zero", {}, "only the last row is wrong"),
    ("tail-of-queries-zero", {}, "only the last 3 rows, a tail shorter than a tile of 128, are wrong"),
    ("first-columns-only", {"head_dim": 80}, "only columns >= 64 are wrong"),
    ("wrong-beyond-first-batch", {"batch": 3}, "only batch > 0 is wrong"),
    ("wrong-for-odd-lengths", {}, "what is wrong is 1.03 times what it should be"),
    ("dk-missing", {"mode": "backward"}, "dk is zero throughout"),
    ("empty-row-is-nan", {"mask": "key_padding", "batch": 2, "kv_lengths": [0, 9]}, "only batch 0 is wrong"),
]


@pytest.mark.parametrize(("name", "fields", "sentence"), GUESSES, ids=[name for name, *_ in GUESSES])
def test_the_cause_is_guessed(name: str, fields: dict[str, Any], sentence: str) -> None:
    case = make_case(**{"heads_q": 2, "seqlen_q": 131, **fields})
    said = guess_of(case, name)
    assert said is not None
    assert sentence in said


def guess_of(case: Case, name: str) -> str | None:
    """Return the guess at the cause of a mutant's first result."""
    worker = Worker(MUTANTS[name].implementation, repeat_ns=0)
    Prepare(case=case, device="cpu").serve(worker)
    FirstCalls().serve(worker)
    selection = select(case)
    truth = find_truth(case, selection, 0)
    shown = Show(selection=requests(case, selection), result=0).serve(worker)
    verdict = judge(case, selection, truth, shown.outputs, shown.frames)
    assert verdict.problem is not None
    return guess(case, selection, truth, verdict.seen, verdict.wrong, 0)


@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_noise_is_given_no_cause(mode: str) -> None:
    case = make_case(heads_q=2, seqlen_q=40, mask="causal", mode=mode)
    selection = select(case)
    truth = find_truth(case, selection, 0)
    generator = torch.Generator().manual_seed(0)
    got = {
        name: torch.randn(answer.shape, dtype=torch.float64, generator=generator)
        for name, answer in truth.answers.items()
    }
    cause = guess(case, selection, truth, got, tuple(got), 0)
    assert cause is not None
    assert cause.startswith("all of it is wrong")


def test_a_mask_that_is_off_by_one_is_named_though_a_row_without_keys_becomes_nan() -> None:
    case = make_case(heads_q=2, seqlen_q=40, mask="causal")
    selection = select(case)
    truth = find_truth(case, selection, 0)
    strict = dataclasses.replace(case, mask="sliding_window", window_left=40, window_right=-1)
    out = reference(strict, selection, 0, EXACT, inputs_of=case)["out"].clone()
    out[:, 0] = torch.nan
    said = guess(case, selection, truth, {"out": out}, ("out",), 0)
    assert said == (
        "it is what the case gives if a query does not see its own position; a row that then sees no key is NaN"
    )


def test_one_head_of_several_is_named() -> None:
    case = make_case(heads_q=4, seqlen_q=40)
    selection = select(case)
    truth = find_truth(case, selection, 0)
    got = {"out": truth.answers["out"].clone()}
    got["out"][2] += torch.randn(40, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert guess(case, selection, truth, got, ("out",), 0) == "only head 2 is wrong"


def test_places_that_are_wrong_together_make_one_sentence() -> None:
    case = make_case(heads_q=4, seqlen_q=40)
    selection = select(case)
    truth = find_truth(case, selection, 0)
    got = {"out": truth.answers["out"].clone()}
    got["out"][1:, 39, 32:] += torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    said = guess(case, selection, truth, got, ("out",), 0)
    assert said == "only head > 0 is wrong, and there only the last row, columns >= 32"


def test_a_factor_is_told_with_its_place() -> None:
    case = make_case(heads_q=2, seqlen_q=131)
    selection = select(case)
    truth = find_truth(case, selection, 0)
    got = {"out": truth.answers["out"].clone()}
    got["out"][:, 128:] *= 0.9
    said = guess(case, selection, truth, got, ("out",), 0)
    assert said == (
        "only the last 3 rows, a tail shorter than a tile of 128, are wrong, and what is wrong is 0.9 times what it "
        "should be"
    )


def test_queries_that_are_missing_in_the_gradients_of_keys_are_counted() -> None:
    case = make_case(heads_q=2, seqlen_q=131, mode="backward")
    selection = select(case)
    truth = find_truth(case, selection, 0)
    without = dataclasses.replace(selection, rows=tuple(range(128)))
    got = {**truth.answers, "dv": find_truth(case, without, 0).answers["dv"]}
    assert guess(case, selection, truth, got, ("dv",), 0) == "the last 3 queries are left out of it"


def test_padding_that_is_masked_by_tiles_is_recognised() -> None:
    case = make_case(heads_q=2, seqlen_q=131, mask="key_padding", kv_lengths=[77])
    selection = select(case)
    truth = find_truth(case, selection, 0)
    got = reference(dataclasses.replace(case, kv_lengths=(80,)), selection, 0, EXACT)
    said = guess(case, selection, truth, got, ("out", "lse"), 0)
    assert said == "it is what the case gives if keys are seen up to the end of a tile of 16"


def test_a_stale_result_is_recognised() -> None:
    case = make_case(heads_q=2, seqlen_q=40)
    selection = select(case, 1)
    truth = find_truth(case, selection, 1)
    stale = find_truth(case, selection, 0).answers
    said = guess(case, selection, truth, stale, ("out",), 1)
    assert said is not None
    assert "the inputs before these" in said
