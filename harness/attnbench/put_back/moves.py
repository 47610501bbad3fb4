"""Bounds on how far a sound implementation may move a model's outputs through rounding errors in attention.

Two sound computations of attention differ by rounding errors, which the rest of the model amplifies or damps. The
effect is measured: the model runs several times with its own attention, and in each call that the implementation serves
independent normal errors are added to the output, of the size by which two sound computations of that call differ
(:mod:`attnbench.put_back.sizes`). The moves of an output are its distances from the undisturbed output: of the whole,
and of the row that moved most.

A sound implementation's move is another draw from the same distribution, which depends on the model. But for any norm
of a normal vector, the tails relative to its root mean square are at most those of a single normal number (the
S-inequality: Latała and Oleszkiewicz, "Gaussian measures of dilatations of convex symmetric sets", Ann. Probab. 27,
1999), whose ratio to the root mean square of n others has Student's t distribution with n degrees of freedom. So a
sound implementation moves an output by more than ``t(n, 1 - p / 2)`` times the root mean square of n moves with a
probability of at most p. The probability that any output of a sound implementation is called wrong is at most 1 in
1,000, divided among the outputs.

Nothing in this is tuned to a model. It assumes that errors are small enough for the model to respond linearly, and that
they are not aligned with the directions that move the outputs most.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.put_back.outputs import Distance, distance, norm
from attnbench.put_back.verified import Move, over

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

SEEDS = 8
"""Number of runs with random errors from which the bound is derived."""
CHANCE = 1e-3
"""Largest probability that a sound implementation is called wrong."""


def factor(outputs: int, seeds: int = SEEDS) -> float:
    """Return the bound of a move over the root mean square of ``seeds`` moves, for a model with ``outputs`` outputs.

    It is at least the root of ``seeds``, below which the inequality does not hold.
    """
    from scipy.special import stdtrit

    chance = CHANCE / (2 * outputs)  # for the whole and for the worst row
    return max(math.sqrt(seeds), float(stdtrit(seeds, 1 - chance / 2)))


def judged(
    original: Mapping[str, Tensor],
    replaced: Mapping[str, Tensor],
    disturbed: Sequence[Mapping[str, Tensor]],
    keep: Mapping[str, Tensor],
) -> list[Move]:
    """Return the move of each output.

    ``disturbed`` are outputs of runs with errors added to the model's own attention; ``keep`` are the rows that count,
    for outputs of which some do not.
    """
    return [
        _move(
            name,
            original[name],
            distance(replaced[name], original[name], keep.get(name)),
            [distance(one[name], original[name], keep.get(name)) for one in disturbed],
            factor(len(original), len(disturbed)),
            0 if name not in keep else int((~keep[name]).sum()),
        )
        for name in original
    ]


def _move(name: str, output: Tensor, found: Distance, moves: Sequence[Distance], times: float, left_out: int) -> Move:
    size = norm(output) or 1.0
    whole, row = (times * _root_mean_square([getattr(one, of) for one in moves]) for of in ("whole", "row"))
    return Move(
        output=name,
        relative=found.whole / size,
        bound=whole / size,
        row_ratio=over(found.row, row),
        rows_left_out=left_out,
    )


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
