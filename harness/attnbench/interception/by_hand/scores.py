"""Tracks scores from queries and keys to probabilities through the steps of plain torch."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import torch

from attnbench.interception.described.spec import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """The origin of a tensor of scores or probabilities: queries, keys, and all steps since."""

    q: Tensor
    """(..., seqlen_q, head_dim)."""
    k: Tensor
    """(..., seqlen_kv, head_dim)."""
    given: tuple[Tensor, Tensor]
    lead: tuple[int, ...]
    """The axes before the last two; if there are two or more, the last of them are the heads."""
    scale: float = 1.0
    within_tanh: float | None = None
    """The scale before a tanh, if there is one; ``scale`` is then the factor after it."""
    added: tuple[tuple[Tensor, float], ...] = ()
    hidden: tuple[Tensor, ...] = ()
    """True where a query does not see a key."""
    dropout: float = 0.0
    are_probabilities: bool = False
    spent_ns: int = 0
    problem: str | None = None
    """Why they do not belong to attention that can be described."""

    def with_heads(self, heads: int) -> Scores:
        """Return the scores with the joint axis of batch and heads split."""
        q, k = (x.unflatten(0, (-1, heads)) for x in (self.q, self.k))  # type: ignore[no-untyped-call]
        return dataclasses.replace(self, q=q, k=k, lead=q.shape[:2])

    def lost(self, problem: str) -> Scores:
        """Return the scores marked as not understood; the first such problem is kept."""
        return dataclasses.replace(self, problem=self.problem or problem)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """A call of a torch function with the scores."""

    name: str
    others: Sequence[Any]
    """Its other arguments."""
    place: int
    """Index of the scores among the arguments."""
    kwargs: Mapping[str, Any]
    out: Tensor


def after(scores: Scores, step: Step) -> Scores:
    """Return the scores after a step."""
    follow = _STEPS.get(step.name.removesuffix("_"))
    if follow is None:
        return scores.lost(f"{step.name} of scores is not followed")
    try:
        return follow(scores, step)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        return scores.lost(f"{step.name} of scores is not followed: {error}")


def _times(scores: Scores, step: Step) -> Scores:
    return _scaled(scores, _number(step.others[0]))


def _over(scores: Scores, step: Step) -> Scores:
    if step.place:
        raise ValueError("a number is divided by them")
    return _scaled(scores, 1 / _number(step.others[0]))


def _plus(scores: Scores, step: Step) -> Scores:
    return with_added(scores, step.others[0], float(step.kwargs.get("alpha", 1.0)))


def _minus(scores: Scores, step: Step) -> Scores:
    if step.place:
        raise ValueError("they are taken from something else")
    return with_added(scores, step.others[0], -float(step.kwargs.get("alpha", 1.0)))


def _scaled(scores: Scores, factor: float) -> Scores:
    if scores.are_probabilities:
        raise ValueError("probabilities are scaled")
    added = tuple((tensor, factor * before) for tensor, before in scores.added)
    return dataclasses.replace(scores, scale=factor * scores.scale, added=added)


def with_added(scores: Scores, tensor: Any, factor: float) -> Scores:
    """Return the scores plus a tensor, or plus a number, which changes no probability."""
    if scores.are_probabilities:
        raise ValueError("something is added to probabilities")
    if not isinstance(tensor, torch.Tensor):
        return scores
    return dataclasses.replace(scores, added=(*scores.added, (_fitted(tensor, scores), factor)))


def _tanh(scores: Scores, _step: Step) -> Scores:
    if scores.within_tanh is not None or scores.added or scores.hidden or scores.are_probabilities:
        raise ValueError("it comes after a mask, or twice")
    return dataclasses.replace(scores, within_tanh=scores.scale, scale=1.0)


def _masked_fill(scores: Scores, step: Step) -> Scores:
    mask, value = [*step.others, *(step.kwargs[name] for name in ("mask", "value") if name in step.kwargs)]
    return _hidden(scores, mask, value)


def _where(scores: Scores, step: Step) -> Scores:
    condition, value = step.others
    return _hidden(scores, ~condition if step.place == 1 else condition, value)


def _hidden(scores: Scores, mask: Tensor, value: Any) -> Scores:
    if _number(value) > HIDDEN or scores.are_probabilities:
        raise ValueError(f"what is hidden becomes {_number(value):g}")
    return dataclasses.replace(scores, hidden=(*scores.hidden, _fitted(mask.bool(), scores)))


def _softmax(scores: Scores, step: Step) -> Scores:
    dim = step.kwargs.get("dim", step.others[0] if step.others else None)
    if dim not in (-1, step.out.dim() - 1) or scores.are_probabilities:
        raise ValueError(f"it goes along axis {dim}")
    return dataclasses.replace(scores, are_probabilities=True)


def _dropout(scores: Scores, step: Step) -> Scores:
    p = step.kwargs.get("p", step.others[0] if step.others else 0.5)
    training = step.kwargs.get("training", step.others[1] if len(step.others) > 1 else True)
    if not training or not p:
        return scores
    if not scores.are_probabilities:
        raise ValueError("scores, and not probabilities, are dropped")
    return dataclasses.replace(scores, dropout=float(p))


def _same(scores: Scores, _step: Step) -> Scores:
    return scores


def _view(scores: Scores, step: Step) -> Scores:
    """Handle a change of the axes before the last two: batch and heads split or merged."""
    lead = step.out.shape[:-2]
    if step.out.shape[-2:] != (scores.q.shape[-2], scores.k.shape[-2]):
        raise ValueError("queries or keys are taken apart")
    if len(lead) <= len(scores.lead):
        return scores  # merged; the known axes stay valid

    def apart(x: Tensor) -> Tensor:
        return x.expand(*scores.lead, *x.shape[-2:]).reshape(*lead, *x.shape[-2:])

    return dataclasses.replace(
        scores,
        q=apart(scores.q),
        k=apart(scores.k),
        lead=lead,
        added=tuple((apart(tensor), factor) for tensor, factor in scores.added),
        hidden=tuple(apart(tensor) for tensor in scores.hidden),
    )


def _fitted(tensor: Tensor, scores: Scores) -> Tensor:
    """Reshape a mask to the axes of the scores, with batch and heads split if the number of heads is known."""
    if tensor.dim() == 3 and len(scores.lead) == 2 and tensor.shape[0] == math.prod(scores.lead) > 1:
        return tensor.reshape(*scores.lead, *tensor.shape[-2:])
    return tensor[(None,) * (len(scores.lead) + 2 - tensor.dim())]


def _number(value: Any) -> float:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise ValueError("it takes a tensor instead of a number")
        return float(value.item())
    return float(value)


_STEPS: Mapping[str, Callable[[Scores, Step], Scores]] = {
    "mul": _times, "multiply": _times, "div": _over, "divide": _over, "true_divide": _over,
    "add": _plus, "sub": _minus, "subtract": _minus,
    "tanh": _tanh, "masked_fill": _masked_fill, "where": _where, "softmax": _softmax, "dropout": _dropout,
    "view": _view, "reshape": _view, "flatten": _view, "unflatten": _view,
    "to": _same, "float": _same, "half": _same, "bfloat16": _same, "double": _same, "type": _same, "type_as": _same,
    "contiguous": _same, "clone": _same,
}  # fmt: skip
