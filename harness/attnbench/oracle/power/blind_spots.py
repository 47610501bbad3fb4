"""Finds gross mistakes that would have agreed with the answer on the same inputs.

If all keys are equal, the mean of the values is the answer, and the verdict is not blind. If the mean is not the answer
but is within the budget, an agreement says nothing about the softmax.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.oracle.answer.arithmetic import PLAIN
from attnbench.oracle.answer.reference import reference
from attnbench.oracle.budget import measure, roundoff, scales, summed_roundoff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.judge import Truth
    from attnbench.oracle.selection import Selection

_RIGHT = 4
"""Number of roundings, at least float16's, within which an answer counts as right and not as a gross mistake."""
_FLOAT16 = 2.0**-12
"""The unit roundoff of float16."""
_NOISE = 2.0**-50
"""A few float64 roundings of the answer's terms."""
_FEW_ROWS = 64


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A misreading of a case as another one."""

    words: str
    misread_as: Case


def hidden_mistakes(case: Case, selection: Selection, truth: Truth) -> tuple[Mistake, ...]:
    """Return the gross mistakes that a few rows of the output do not reveal; usually there are none."""
    if "out" not in truth.answers:  # the output is empty
        return ()
    return tuple(one for one in _mistakes(case) if not _is_seen_in_few_rows(case, selection, truth, one.misread_as))


def blind_spot(
    case: Case, selection: Selection, truth: Truth, judged: Sequence[str], hidden: Sequence[Mistake]
) -> str | None:
    """Return, in a few words, a gross mistake that would have agreed without being right, or ``None``.

    The verdict misses a mistake if it shows in none of the tensors ``judged``. ``truth`` is that of the first inputs.
    """
    for name in judged:
        zeros = truth.answers[name].new_zeros(truth.answers[name].shape)
        if _agrees(case, truth, {name: zeros}) and not _is_right(case, truth, {name: zeros}):
            return f"zeros in place of {name}"
    shifted = {
        name: truth.answers[name].roll(1, 1) if name in ("out", "lse", "dq") else truth.answers[name] for name in judged
    }
    if _agrees(case, truth, shifted) and not _is_right(case, truth, shifted):
        return "the answer of the row before"
    for mistake in hidden:
        answers = reference(mistake.misread_as, selection, 0, PLAIN, inputs_of=case)
        mistaken = {name: answers[name] for name in judged}
        if _agrees(case, truth, mistaken) and not _is_right(case, truth, mistaken):
            return mistake.words
    return None


def _mistakes(case: Case) -> Iterator[Mistake]:
    """Yield ways to misread the case. With projections every input counts, so no mistake can hide."""
    if case.operator != "attention":
        return
    yield Mistake("the mean of the visible values, whatever the scores", dataclasses.replace(case, scale=1e-12))
    if case.scale != 1:
        yield Mistake("scores that are not scaled", dataclasses.replace(case, scale=1.0))


def _is_seen_in_few_rows(case: Case, selection: Selection, truth: Truth, other: Case) -> bool:
    """Whether a sample of the first group's rows reveals the mistake, as it nearly always does."""
    import torch

    heads = case.heads_q // case.heads_kv
    rows = range(case.seqlen_q) if selection.rows is None else selection.rows
    places = sorted({len(rows) * i // _FEW_ROWS for i in range(_FEW_ROWS)})
    some = dataclasses.replace(
        selection, groups=selection.groups[:1], rows=tuple(rows[i] for i in places), gradients_of_keys=False, keys=None
    )
    got = reference(forward_alone(other), some, 0, PLAIN, inputs_of=forward_alone(case))["out"]
    answer = truth.answers["out"]
    _, of_rows = scales(torch.where(torch.isfinite(answer), answer, 0.0))
    difference = (got - answer[:heads, places]).nan_to_num()
    _, allowed = truth.allowed(case, "out")
    return bool((difference.norm(dim=-1) > allowed * of_rows[:heads, places]).any())


def forward_alone(case: Case) -> Case:
    """Return the case's forward pass alone, on the same queries, keys and values."""
    strides = "contiguous" if case.strides == "summed" else case.strides  # it is about the upstream gradient
    return dataclasses.replace(case, mode="forward", strides=strides)


def _agrees(case: Case, truth: Truth, answers: dict[str, Tensor]) -> bool:
    return all(truth.is_within(case, name, got, truth.answers[name]) for name, got in answers.items())


def _is_right(case: Case, truth: Truth, answers: dict[str, Tensor]) -> bool:
    """Whether answers are right up to a few roundings of the result, or of terms that cancel, where 0 may be right.

    Terms that are large only because scores are stored do not count.
    """
    noise = _NOISE if truth.stores_scores else summed_roundoff(case)
    for name, got in answers.items():
        if name != "lse" and _is_stored_alike(case, got, truth.answers[name]):
            continue
        error = measure(got, truth.answers[name], per_value=name == "lse")
        once, terms = _RIGHT * max(roundoff(case, name), _FLOAT16), truth.terms[name]
        if error.rel > once + noise * terms.rel or error.max > 2 * (once + noise * terms.max):
            return False
    return True


def _is_stored_alike(case: Case, got: Tensor, answer: Tensor) -> bool:
    """Whether two tensors are equal in the output dtype, for example because the answer underflows."""
    import torch

    kept = getattr(torch, case.output_dtype)
    return torch.equal(got.to(kept), answer.to(kept))
