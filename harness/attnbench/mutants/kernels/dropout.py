"""Mistakes with dropout: in the weights that are dropped, in the reported mask, and in the backward pass."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attnbench.mutants.steps import Explicit, Plan, Steps

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


class DropoutMissing(Steps):
    """A mask is drawn, but no weight is dropped."""

    def dropped(self, weights: Tensor, kept: Tensor | None, case: Case) -> Tensor:
        return weights


class DropoutOfTheRest(Steps):
    """A weight is kept with the probability with which it should be dropped."""

    def drawn_from(self, seed: int, shape: tuple[int, ...], p: float) -> Tensor:
        return super().drawn_from(seed, shape, 1 - p)


class DropoutNotRescaled(Steps):
    """Weights that are kept stay as they are."""

    def growth(self, p: float) -> float:
        return 1.0


class DropoutRescaledByP(Steps):
    """Weights that are kept are divided by p, not by 1 - p."""

    def growth(self, p: float) -> float:
        return 1 / p


class DropoutBeforeSoftmax(Steps):
    """Scores are hidden instead of weights being dropped, so that the remaining weights sum to 1."""

    def dropped(self, weights: Tensor, kept: Tensor | None, case: Case) -> Tensor:
        if kept is None:
            return weights
        left = weights * kept
        return left / left.sum(-1, keepdim=True).clamp_min(1e-30)


class DropoutAlikeInHeads(Steps):
    """All heads drop the same weights."""

    def drawn_from(self, seed: int, shape: tuple[int, ...], p: float) -> Tensor:
        return super().drawn_from(seed, shape, p)[:, :1].repeat(1, shape[1], 1, 1)


class DropoutAlikeInSequences(Steps):
    """All sequences of a batch drop the same weights."""

    def drawn_from(self, seed: int, shape: tuple[int, ...], p: float) -> Tensor:
        return super().drawn_from(seed, shape, p)[:1].repeat(shape[0], 1, 1, 1)


class DropoutOfWholeKeys(Steps):
    """A key is dropped for all queries of a head."""

    def drawn_from(self, seed: int, shape: tuple[int, ...], p: float) -> Tensor:
        return super().drawn_from(seed, shape, p)[:, :, :1].repeat(1, 1, shape[2], 1)


class DropoutRepeatsInTiles(Steps):
    """Each tile of 32 keys drops as the one before it, as when a counter starts anew."""

    def drawn_from(self, seed: int, shape: tuple[int, ...], p: float) -> Tensor:
        import torch

        return super().drawn_from(seed, shape, p)[..., torch.arange(shape[3]) % 32]


class DropoutSeedIgnored(Steps):
    """The seed is the same for all calls, whatever the case says."""

    def drawn_from(self, seed: int, shape: tuple[int, ...], p: float) -> Tensor:
        return super().drawn_from(7, shape, p)


class DropoutAnewInEachCall(Steps):
    """A call that is repeated with its seed drops other weights."""

    def prepare(self, case: Case, operands: object) -> Plan:
        self._calls = itertools.count()
        return super().prepare(case, operands)  # type: ignore[arg-type]  # the operands of the base

    def drawn_from(self, seed: int, shape: tuple[int, ...], p: float) -> Tensor:
        return super().drawn_from(seed + next(self._calls), shape, p)


class DropoutToldOfAnotherHead(Steps):
    """The reported mask is that of the head before."""

    def told(self, case: Case, plan: Plan) -> Tensor:
        return super().told(case, plan).roll(1, 1)


class DropoutAnotherBackward(Explicit):
    """The backward pass draws another mask than the forward pass did."""

    def kept_backward(self, case: Case, plan: Plan) -> Tensor | None:
        kept = super().kept_backward(case, plan)
        return None if kept is None else self.drawn_from(5, tuple(kept.shape), case.dropout or 0.0)


class DropoutMissingBackward(Explicit):
    """The backward pass drops nothing."""

    def kept_backward(self, case: Case, plan: Plan) -> Tensor | None:
        return None


class DropoutMissingInDv(Explicit):
    """dV is made of weights before they were dropped."""

    def weights_of_dv(self, weights: Tensor) -> Tensor:
        return weights if self.kept is None else self._undropped

    def weights(self, linear: Tensor, lse: Tensor, case: Case, plan: Plan) -> Tensor:
        self._undropped = super().weights(linear, lse, case, plan)
        return self._undropped
