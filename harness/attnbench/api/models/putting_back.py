"""``attnbench.verify``: a model with another attention, compared with itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.api.results import Answer
from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.put_back.verify import Verified
    from attnbench.registry.implementation import Implementation


class VerifiedModel(Answer):
    """Whether a model's outputs are the same with an implementation, and what it takes; ``ok`` where they are."""

    def __init__(self, verified: Verified) -> None:
        from attnbench.put_back.view import verified_view

        super().__init__(lambda: verified_view(verified), ok=all(move.agrees for move in verified.moves))
        self.verified = verified
        """The answer as data."""


def verify(
    model: Callable[[], object],
    implementation: str | Implementation,
    *,
    plugin: str | None = None,
    rounds: int = 9,
) -> VerifiedModel:
    """Compare a model with itself, its attention computed by an implementation: outputs, and wall time in turns.

    How far its outputs may move follows from rounding errors alone, see :mod:`attnbench.put_back.moves`: the model's
    own attention is disturbed by as much as two sound computations differ, eight times, and the outputs' moves give
    the bound, which at most one of 1,000 sound implementations exceeds. Rows that depend on queries which see no key
    (of padding, say) are left out: their attention is nowhere defined.

    Args:
        model: runs the model once and returns its outputs, whose tensors of floats are compared; a function without
            arguments, such as ``lambda: model(**inputs)``, that leaves the model as it is. Each time torch's random
            numbers are the same.
        implementation: as of :func:`attnbench.use`.
        plugin: as of :func:`attnbench.use`.
        rounds: how often either is timed.

    Raises:
        UsageError: when there is no such implementation, it serves none of the model's calls, or the model returns
            nothing that can be compared.
    """
    from attnbench.put_back.chosen import chosen
    from attnbench.put_back.verify import verified

    if rounds < 1:
        raise UsageError(f"rounds must be at least 1, not {rounds}")
    return VerifiedModel(verified(model, chosen(implementation, plugin), rounds))
