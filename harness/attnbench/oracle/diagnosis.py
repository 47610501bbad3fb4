"""Guesses the cause of a disagreement.

First it tests hypotheses: if the output is that of the case with another mask, scale or head map, that mistake is
named. Otherwise it describes the pattern of wrong elements: heads, rows, columns or tiles.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from attnbench.cases.inputs.sampling import group_pairs
from attnbench.cases.masks.table import instead_of, kinds_of
from attnbench.cases.score_mods import in_order
from attnbench.cases.tensors.planes import misread
from attnbench.oracle.answer.arithmetic import EXACT
from attnbench.oracle.answer.reference import reference
from attnbench.oracle.judge import find_truth
from attnbench.oracle.patterns import TILES, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.judge import Truth
    from attnbench.oracle.selection import Selection

_BIAS_MISREAD = {
    "with the bias transposed": "transposed",
    "with the bias of the first sequence for all": "first",
    "with the bias of the first head for all": "first-head",
    "if the bias is subtracted": "negated",
}
_MOST_PAIRS = 2**22
"""Largest number of query-key pairs for which hypotheses are tested, as they need the answers of other cases."""


def guess(
    case: Case,
    selection: Selection,
    truth: Truth,
    got: Mapping[str, Tensor],
    wrong: Sequence[str],
    repetition: int,
) -> str | None:
    """Return one sentence on why the tensors ``wrong`` disagree, or ``None``.

    ``got`` holds the judged tensors in float64, with the shapes of the truth's.
    """
    simple = _of_the_lse_alone(truth, got, wrong) or _of_no_values(got, wrong)
    if simple:
        return simple
    if len(selection.groups) * group_pairs(case) <= _MOST_PAIRS:
        for sentence, answers in _hypotheses(case, selection, repetition, wrong):
            told = [name for name in wrong if name in answers]
            seen = {name: _of_no_key(got[name], answers[name], truth.answers[name]) for name in told}
            if told and all(_agrees(case, truth, name, seen[name], answers[name]) for name in told):
                is_nan = any(seen[name] is not got[name] for name in told)
                return f"{sentence}; a row that then sees no key is NaN" if is_nan else sentence
        if _may_store_scores(case, truth, wrong):
            roomier = find_truth(case, selection, repetition, stores_scores=True)
            if all(_agrees(case, roomier, name, got[name], truth.answers[name]) for name in wrong):
                return (
                    f"scores are stored in {case.output_dtype} on the way: keep them in float32, or declare "
                    "stores_scores=True, which widens the budget"
                )
    name = wrong[0]
    _, allowed = truth.allowed(case, name)
    return pattern(case, selection, name, got[name], truth.answers[name], allowed)


def _may_store_scores(case: Case, truth: Truth, wrong: Sequence[str]) -> bool:
    """Whether stored scores may be the cause: they move the output too, and the budget does not allow for them yet."""
    is_coarse = case.output_dtype in ("float16", "bfloat16")
    return is_coarse and not truth.stores_scores and not {"out", "lse"}.isdisjoint(wrong)


def _agrees(case: Case, truth: Truth, name: str, got: Tensor, answer: Tensor) -> bool:
    import torch

    same = torch.equal(torch.isfinite(got), torch.isfinite(answer))
    return same and truth.is_within(case, name, got, answer)


def _of_no_key(got: Tensor, answer: Tensor, right: Tensor) -> Tensor:
    """``got`` as ``answer`` has it where that sees no key and ``right`` does: a plain softmax over none is NaN."""

    def is_empty(tensor: Tensor) -> Tensor:
        return (tensor == 0) | tensor.isneginf()

    empty = got.isnan() & is_empty(answer) & ~is_empty(right)
    return answer.where(empty, got) if bool(empty.any()) else got


def _of_the_lse_alone(truth: Truth, got: Mapping[str, Tensor], wrong: Sequence[str]) -> str | None:
    import torch

    if tuple(wrong) != ("lse",):
        return None
    finite = torch.isfinite(truth.answers["lse"]) & torch.isfinite(got["lse"])
    seen, right = got["lse"][finite], truth.answers["lse"][finite]
    if right.numel() and torch.allclose(seen, right / math.log(2), rtol=1e-4, atol=1e-4):
        return "the LSE is a logarithm to base 2: multiply it by ln 2"
    return None


def _of_no_values(got: Mapping[str, Tensor], wrong: Sequence[str]) -> str | None:
    """Return a sentence if the first wrong tensor is all zero or all NaN, or ``None``."""
    name = wrong[0]
    if bool((got[name] == 0).all()):
        return f"{name} is zero throughout: it was never computed"
    if bool(got[name].isnan().all()):
        return f"{name} is NaN throughout: never written, overflowed, or a softmax over no visible key"
    return None


def _hypotheses(
    case: Case, selection: Selection, repetition: int, wrong: Sequence[str]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield sentences with the answers that they predict, from the most specific to the most general."""
    if set(wrong) <= {"dk", "dv"} and selection.rows is None:
        for count in dict.fromkeys(case.seqlen_q % tile or tile for tile in TILES):
            if count < case.seqlen_q:
                kept = dataclasses.replace(selection, rows=tuple(range(case.seqlen_q - count)))
                answers = reference(case, kept, repetition, EXACT)
                yield f"the last {count} queries are left out of it", {name: answers[name] for name in ("dk", "dv")}
    for sentence, other in _other_cases(case):
        yield f"it is what the case gives {sentence}", reference(other, selection, repetition, EXACT, inputs_of=case)
    if repetition:
        earlier = reference(case, selection, 0, EXACT)
        yield "it is the answer to the inputs before these: a result, or something prepared, was kept", earlier


def _other_cases(case: Case) -> Iterator[tuple[str, Case]]:
    """Yield sentences with the case as an implementation with that mistake would read it; inputs stay the same."""

    def other(**fields: object) -> Case:  # another bias may have another shape, so its gradient is not compared
        return dataclasses.replace(case, **fields, bias_grad=None)  # type: ignore[arg-type]

    kinds = kinds_of(case.mask)
    if case.seqlen_q != case.seqlen_kv and any(kind.on_diagonal for kind in kinds):
        turned = "bottom_right" if case.alignment == "top_left" else "top_left"
        yield f"with alignment {turned}", other(alignment=turned)
    for kind in kinds:
        for sentence, fields in kind.misreadings(case):
            mask = instead_of(case.mask, kind.name, str(fields.get("mask", kind.name)))
            yield sentence, other(**{**fields, "mask": mask})
    for kind in kinds:
        if kind.name != "none":
            yield f"without its mask ({kind.name})", other(mask=instead_of(case.mask, kind.name, "none"))
    for mod in case.score_mods:
        if mod != "none":
            rest = in_order({*case.score_mods} - {mod})
            yield f"without {mod}", other(score_mod=rest, softcap=None if mod == "softcap" else case.softcap)
    if case.bias_file is not None:
        for sentence, how in _BIAS_MISREAD.items():
            if how != "transposed" or case.seqlen_q == case.seqlen_kv:
                yield sentence, other(bias_file=misread(how, case.bias_file))
    widths = {64, 128, 2 ** math.ceil(math.log2(case.head_dim)), case.head_dim, case.head_dim_v}
    for width in sorted(width for width in widths if 1 / math.sqrt(width) != case.scale):
        yield f"with the scale of head_dim {width}", other(scale=1 / math.sqrt(width))
    yield "if scores are not scaled", other(scale=1.0)
    yield "if scores are scaled twice", other(scale=case.scale**2)
    yield "with powers of 2 instead of e", other(scale=case.scale * math.log(2))
    yield "if all visible keys weigh the same", other(scale=1e-12)
