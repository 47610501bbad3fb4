"""Recognises attention that a program computes itself: a product, a softmax, and another product."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.weak import WeakIdKeyDictionary

from attnbench.interception.autocast import as_computed
from attnbench.interception.by_hand.products import PRODUCTS, product_of
from attnbench.interception.by_hand.scores import Scores, Step, after, with_added
from attnbench.interception.call import AttentionCall
from attnbench.interception.heads import shared_heads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from attnbench.interception.by_hand.products import Product
    from attnbench.interception.hooks.function_mode import Interceptor

_WHAT = "softmax between two products in plain torch"


class ByHand:
    """Follows the tensors of one thread that hold scores or probabilities."""

    def __init__(self, interceptor: Interceptor) -> None:
        self._interceptor = interceptor
        self._followed: Any = WeakIdKeyDictionary()
        self.heads: int | None = None
        """Number of heads that share an axis with the batch, if known."""

    def wants(self, name: str) -> bool:
        """Whether a function of this name is to be run by :meth:`run`."""
        return name in PRODUCTS or name == "softmax" or self.follows

    @property
    def follows(self) -> bool:
        """Whether there may be a tensor that is followed."""
        return bool(self._followed.data)

    def run(self, function: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a function of torch, and track its effect on scores."""
        place = self._place(args)
        if name in PRODUCTS:
            args = args if place is not None else [_alias(x) for x in args]
            product = product_of(name, args, kwargs)
            if product is not None:
                left = self._followed.get(product.given[0])
                if left is not None and left.are_probabilities:
                    return self._attention(left, product, function, args, kwargs)
                if left is None and place is None:
                    return self._scores(product, function, args, kwargs)
        before = time.perf_counter_ns()
        out = function(*args, **kwargs)
        if place is None:
            if name == "softmax" and isinstance(out, torch.Tensor) and out.dim() >= 3:
                self._followed[out] = _of_unknown(args[0], out)
            return out
        self._follow(name, args, kwargs, place, out, time.perf_counter_ns() - before)
        return out

    def _place(self, args: Sequence[Any]) -> int | None:
        """Return the index of the tracked argument; ``None`` for most functions."""
        if not len(self._followed):
            return None
        tensors = [i for i, x in enumerate(args[:3]) if isinstance(x, torch.Tensor)]
        return next((i for i in tensors if args[i] in self._followed), None)

    def _scores(
        self, product: Product, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run and track a matrix product that may be attention scores, if a softmax of it follows."""
        before = time.perf_counter_ns()
        out = function(*args, **kwargs)
        spent_ns = time.perf_counter_ns() - before
        left, right = product.left, product.right
        if not product.is_in_order or not out.is_floating_point() or isinstance(right, torch.nn.Parameter):
            return out
        lead: tuple[int, ...] = left.shape[:-2]
        if lead != right.shape[:-2]:
            lead = np.broadcast_shapes(lead, right.shape[:-2])  # torch's own imports SymPy, which takes seconds
        q, k = left, right.transpose(-1, -2)
        scores = Scores(q=q, k=k, given=product.given, lead=lead, scale=product.factor, spent_ns=spent_ns)
        if self.heads is not None and len(lead) == 1 and lead[0] % self.heads == 0:
            scores = scores.with_heads(self.heads)
        if product.added is not None:
            scores = with_added(scores, *product.added)
        self._followed[out] = scores
        return out

    def _follow(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], place: int, out: Any, spent_ns: int
    ) -> None:
        if not isinstance(out, torch.Tensor) or out.dim() < 2 or not out.is_floating_point():
            return
        scores = self._followed[args[place]]
        others = [x for i, x in enumerate(args) if i != place]
        later = after(scores, Step(name=name, others=others, place=place, kwargs=kwargs, out=out))
        self._followed[out] = dataclasses.replace(later, spent_ns=scores.spent_ns + spent_ns)

    def _attention(
        self, scores: Scores, product: Product, function: Callable[..., Any], args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:  # fmt: skip
        """Answer the product of probabilities and values as an attention call."""
        problem, call = scores.problem, None
        if problem is None:

            def run(values: Tensor) -> Tensor:
                out: Tensor = function(*(values if x is product.given[1] else x for x in args), **kwargs)
                return out

            try:
                with self._interceptor.own_time():
                    call = self._call(scores, product, run)
            except (RuntimeError, ValueError) as error:
                problem = str(error)
        if call is None:
            out = function(*args, **kwargs)
            self._interceptor.unmatched(_WHAT, problem or "")
            return out
        out = self._interceptor.answer(call)
        shape = (*product.left.shape[:-1], product.right.shape[-1])
        return product.to_program(out.reshape(shape))

    def _call(self, scores: Scores, product: Product, run: Callable[[Tensor], Tensor]) -> AttentionCall:
        lead = scores.lead
        values = product.right
        if values.dim() != len(lead) + 2:
            values = values.reshape(*lead, *values.shape[-2:])
        grouped = len(lead) == 3 and scores.k.shape[2] == 1 < lead[2]  # queries beside each other share a key head
        q = _four_axes(scores.q, lead, grouped=grouped)
        k, v = (_four_axes(x, lead, grouped=grouped, expand=not grouped) for x in (scores.k, values))
        batch, heads = q.shape[:2]
        shared = max(k.shape[1], v.shape[1])
        k, v = shared_heads(*(x.expand(batch, shared, *x.shape[2:]) for x in (k, v)))

        def last_product(values: Tensor) -> Tensor:
            out = product.from_program(run(values))
            return out.reshape(batch, heads, *out.shape[-2:])

        is_capped = scores.within_tanh is not None
        return AttentionCall(
            q=as_computed(q),
            k=as_computed(k),
            v=as_computed(v),
            scale=scores.scale * scores.within_tanh if scores.within_tanh is not None else scores.scale,
            softcap=scores.scale if is_capped else None,
            mask=_mask(scores, grouped=grouped),
            dropout=scores.dropout,
            layer=self._interceptor.modules.name(),
            api="matmul",
            given=product.given[1:],
            run=last_product,
            earlier=scores.given,
            spent_ns=scores.spent_ns,
        )


def _alias(x: Any) -> Any:
    """Return a view as a new node of autograd's graph, whose gradient is that of this product alone."""
    if not isinstance(x, torch.Tensor) or isinstance(x, torch.nn.Parameter):
        return x
    return x.view_as(x) if x.requires_grad and torch.is_grad_enabled() else x


def _of_unknown(scores: Any, probabilities: Tensor) -> Scores:
    """Return the entry of probabilities of unknown origin."""
    return Scores(
        q=scores,
        k=scores,
        given=(scores, scores),
        lead=probabilities.shape[:-2],
        are_probabilities=True,
        problem="the softmax is of something that is no product which could be followed",
    )


def _mask(scores: Scores, *, grouped: bool) -> Tensor | None:
    """Combine all hidden keys and added tensors into one mask of four axes."""
    visible = None
    for hidden in scores.hidden:
        one = _four_axes(~hidden, scores.lead, grouped=grouped)
        visible = one if visible is None else visible & one
    added = None
    for tensor, factor in scores.added:
        one = factor * _four_axes(tensor, scores.lead, grouped=grouped)
        added = one if added is None else added + one
    if added is None or visible is None:
        return visible if added is None else added
    return torch.where(visible, added, -torch.inf)


def _four_axes(x: Tensor, lead: tuple[int, ...], *, grouped: bool, expand: bool = True) -> Tensor:
    """Reshape (..., rows, columns) to (batch, heads, rows, columns); axes of length 1 are kept where possible.

    With ``grouped``, heads are two axes: key heads, and query heads that share a key head. With ``expand``, axes that
    are merged are first expanded to the scores' lengths.
    """
    x = x[(None,) * (len(lead) + 2 - x.dim())]
    if len(lead) < 2:
        return x.unsqueeze(1) if lead else x[None, None]
    if len(lead) == 2:
        return x
    first, last = (1, 2) if grouped else (0, len(lead) - 2)
    if expand and any(n > 1 for n in x.shape[first : last + 1]):
        x = x.expand(*x.shape[:first], *lead[first : last + 1], *x.shape[last + 1 :])
    return x.flatten(first, last)
