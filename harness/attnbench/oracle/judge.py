"""The verdict: whether the outputs of a call agree with the answer."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

from attnbench.cases.case import CaseError
from attnbench.cases.inputs.sign_flips import score_signs, value_signs
from attnbench.oracle.answer.arithmetic import Arithmetic
from attnbench.oracle.answer.reference import VALUE_NORMS, references
from attnbench.oracle.budget import Error, budget, measure, size_of_storing, size_of_terms
from attnbench.oracle.power.noticed import noticed
from attnbench.oracle.selection import requests
from attnbench.stages.agreement import JUDGED_TENSORS, AgreementMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.answer.reference import Queries
    from attnbench.oracle.selection import Selection
    from attnbench.stages.agreement import Shape, Wanted


@dataclasses.dataclass(frozen=True)
class Truth:
    """The correct outputs of a case, and the errors of the low-precision reference."""

    answers: dict[str, Tensor]
    low_precision: dict[str, Error]
    terms: dict[str, Error]
    """Size of the rounding errors of scores and cancelling terms, in unit roundoffs, by tensor."""
    stores_scores: bool = False
    """Whether the low-precision reference stores scores."""
    value_norms: Tensor | None = None
    """RMS length of each judged group's values."""

    def allowed(self, case: Case, name: str) -> tuple[float, float]:
        """Return the budgets of ``rel`` and ``max`` of a tensor."""
        return budget(case, name, self.low_precision[name], self.terms.get(name))

    def is_within(self, case: Case, name: str, got: Tensor, answer: Tensor) -> bool:
        """Whether the error of a tensor against an answer is within its budget."""
        error, (allowed_rel, allowed_max) = measure(got, answer, per_value=name == "lse"), self.allowed(case, name)
        return error.rel <= allowed_rel and error.max <= allowed_max

    @functools.cached_property
    def nbytes(self) -> int:
        """Memory of the answers in bytes."""
        return sum(tensor.nbytes for tensor in self.answers.values())

    def flipped(self, case: Case, selection: Selection, flip_index: int) -> Truth:
        """Return the truth with the signs of a flip index (``cases/inputs/sign_flips.py``); errors are unchanged."""
        return dataclasses.replace(self, answers=flipped(case, selection, self.answers, flip_index))


def flipped(case: Case, selection: Selection, tensors: dict[str, Tensor], flip_index: int) -> dict[str, Tensor]:
    """Flip signs: of ``out``, ``dq`` and ``dk`` with those of V, and of ``dq`` and ``dk`` with those of Q and K."""
    import torch

    if flip_index == 0:
        return tensors
    of_values = value_signs(case, flip_index)
    of_gradients = of_values * score_signs(case, flip_index)
    size = len(selection.query_heads(case)) // len(selection.groups)

    def of_groups(signs: NDArray[np.int8]) -> Tensor:
        return torch.tensor([int(signs[b, g]) for b, g in selection.groups], dtype=torch.float64)

    by_name = {
        "out": of_groups(of_values).repeat_interleave(size),
        "dq": of_groups(of_gradients).repeat_interleave(size),
        "dk": of_groups(of_gradients),
        "dbias": of_groups(of_values)[:1],  # all heads have the same sign then
    }
    return {
        name: tensor * by_name[name][:, None, None] if name in by_name else tensor for name, tensor in tensors.items()
    }


def find_truth(
    case: Case,
    selection: Selection,
    repetition: int,
    *,
    stores_scores: bool = False,
    queries: Queries | None = None,
    kept: Tensor | None = None,
) -> Truth:
    """Compute the answer, and the errors of the low-precision reference on the same inputs.

    ``queries`` replaces the case's own queries; with dropout, ``kept`` holds the factors of the weights, see
    :func:`attnbench.oracle.answer.reference.references`.

    Raises:
        CaseError: if the answer of a row is undefined, see :mod:`attnbench.oracle.answer.undetermined`.
    """
    # In float64 there is no low-precision reference: a budget is the rounding term alone.
    ways = [Arithmetic(case.dtype, through_lse, stores_scores) for through_lse in (False, True)]
    exact = Arithmetic(None, stores_scores=stores_scores)
    arithmetics = [exact] if case.dtype == "float64" else [exact, *ways]
    answers, *low = references(case, selection, repetition, arithmetics, queries=queries, kept=kept)
    value_norms = answers.pop(VALUE_NORMS, None)
    answers = {name: answer for name, answer in answers.items() if answer.numel()}  # only the shape of others counts
    lost = [name for name, answer in answers.items() if bool(answer.isnan().any())]
    if lost:
        raise CaseError(
            [f"there is no right answer: a query meets NaN or inf, or overflows (NaN in {', '.join(lost)})"]
        )
    terms: dict[str, Error] = {
        name: size_of_terms(case, name, answers[name], answers.pop(f"{name}_terms"))
        for name in JUDGED_TENSORS
        if name in answers
    }
    stored = {name: answers.pop(f"{name}_stored") for name in tuple(answers) if f"{name}_stored" in answers}
    low_precision = {
        name: size_of_storing(case, answers[name], stored[name]) if name in stored else Error(0.0, 0.0, ())
        for name in answers
    }
    for computed in low:
        for name, answer in answers.items():
            error = measure(computed[name], answer, per_value=name == "lse")
            low_precision[name] = error.or_worse(low_precision[name])
    return Truth(answers, low_precision, terms, stores_scores, value_norms)


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The judgement on the outputs of a call."""

    metrics: AgreementMetrics
    problem: str | None
    """A sentence on the disagreement, or ``None`` if they agree."""
    wrong: tuple[str, ...]
    """Tensors whose values disagree."""
    seen: dict[str, Tensor]
    """The judged tensors in float64, with the signs of flip index 0."""


def judge(
    case: Case,
    selection: Selection,
    truth: Truth,
    described: Mapping[str, Shape],
    shown: Mapping[str, bytes],
    *,
    flip_index: int = 0,
) -> Judgement:
    """Judge the tensors that a worker has sent.

    ``truth`` is that of flip index 0; ``shown`` holds the raw bytes of the requested parts.
    """
    wanted = requests(case, selection)
    wanted.pop("kept", None)
    due = truth.flipped(case, selection, flip_index)
    fields: dict[str, object] = {}
    problems: list[str] = []
    wrong: list[str] = []
    seen: dict[str, Tensor] = {}
    for name in wanted:
        if name not in described:
            if name != "lse":
                problems.append(f"{name} was not returned")
            continue
        problem = _malformed(case, name, described[name], wanted[name].shape)
        if problem:
            problems.append(problem)
            continue
        answer = due.answers.get(name)
        if answer is None:  # the tensor is empty
            continue
        got = seen[name] = read_tensor(shown[name], described[name].dtype, answer.shape)
        problem = _wrong_non_finite(name, got, answer, wanted[name]) or _judge_values(
            case, name, got, due, wanted[name], fields
        )
        if problem:
            problems.append(problem)
            wrong.append(name)
    if "out" in seen:
        size = len(selection.query_heads(case)) // len(selection.groups)
        groups = [group for group in range(len(selection.groups)) for _ in range(size)]
        fields |= noticed(case, truth, groups)
    fields["rows_checked"] = selection.rows_checked(case)
    fields["rows_total"] = case.batch * case.seqlen_q * (1 if case.operator == "multi_head_attention" else case.heads_q)
    metrics = AgreementMetrics.model_validate(fields)
    return Judgement(metrics, "; ".join(problems) or None, tuple(wrong), flipped(case, selection, seen, flip_index))


def _malformed(case: Case, name: str, got: Shape, expected: tuple[int, ...]) -> str | None:
    if got.shape != expected:
        return f"{name} has shape {got.shape}, not {expected}"
    allowed = {"float32", "float64"} if name == "lse" else {case.output_dtype}
    if got.dtype not in allowed:
        return f"{name} has dtype {got.dtype}, not {' or '.join(sorted(allowed))}"
    return None


def read_tensor(data: bytes, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor that a worker has sent, in float64."""
    import torch

    return torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype)).reshape(shape).double()


def _wrong_non_finite(name: str, got: Tensor, answer: Tensor, wanted: Wanted) -> str | None:
    """Return a sentence if NaN or infinities are not exactly where the answer has them, or ``None``."""
    import torch

    if bool(torch.isfinite(got).all()) and bool(torch.isfinite(answer).all()):
        return None
    differs = ~torch.isfinite(got) & ~torch.isfinite(answer) & ~((got == answer) | (got.isnan() & answer.isnan()))
    differs |= torch.isfinite(got) != torch.isfinite(answer)
    if not bool(differs.any()):
        return None
    first = tuple(int(i) for i in torch.nonzero(differs)[0])
    return (
        f"{name} is {_number(float(got[first]))} where {_number(float(answer[first]))} is right, at "
        f"{describe_index(locate(first, wanted))}, and in {int(differs.sum())} of {differs.numel()} judged elements"
    )


def _judge_values(
    case: Case, name: str, got: Tensor, truth: Truth, wanted: Wanted, fields: dict[str, object]
) -> str | None:
    answer = truth.answers[name]
    error = measure(got, answer, per_value=name == "lse")
    allowed_rel, allowed_max = truth.allowed(case, name)
    ratio = max(error.rel / allowed_rel, error.max / allowed_max)
    where = locate(error.worst, wanted)
    fields[f"{name}_error_rel"] = error.rel
    fields[f"{name}_error_max"] = error.max
    fields[f"{name}_error_budget"] = allowed_rel
    fields[f"{name}_error_ratio"] = ratio
    fields[f"{name}_error_worst"] = where
    if ratio <= 1:
        return None
    beyond, allowed = (
        (error.rel, allowed_rel) if error.rel / allowed_rel >= error.max / allowed_max else (error.max, allowed_max)
    )
    kind = "error" if beyond == error.rel else "error of its worst row"
    return (
        f"{name}: {kind} {beyond:.2e} is {_times(ratio)} its budget {allowed:.2e}, worst at {describe_index(where)} "
        f"({_number(float(got[error.worst]))} instead of {_number(float(answer[error.worst]))})"
    )


def locate(index: tuple[int, ...], wanted: Wanted) -> tuple[int, ...]:
    """Convert an index of the judged part to (batch, head, row, column) of the whole tensor."""
    batch_index, head = wanted.heads[index[0]]
    row = index[1] if wanted.rows is None else wanted.rows[index[1]]
    return (batch_index, head, row, *index[2:])


def describe_index(where: tuple[int, ...]) -> str:
    """Return a place as text: ``batch 0, head 3, row 127, column 5``."""
    return ", ".join(f"{noun} {i}" for noun, i in zip(("batch", "head", "row", "column"), where, strict=False))


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times" if math.isfinite(ratio) else "infinitely many times"


def _number(value: float) -> str:
    return f"{value:.6g}"
