"""``attnbench.verify`` and ``attnbench use``: a model with another attention, and compared with itself."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.api.results import Answer
from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnbench.put_back.verified import Verified
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

    _require_rounds(rounds)
    return VerifiedModel(verified(model, chosen(implementation, plugin), rounds))


def use_program(
    implementation: str, program: Sequence[str], *, plugin: str | None, rounds: int | None
) -> tuple[VerifiedModel | None, int]:
    """Run a Python program, in a process of its own with this one's streams, with an implementation's attention.

    With ``rounds`` it runs about 20 times and twice for each round, and its model is compared with itself.

    Returns:
        The comparison, where one was asked for and the program ended well, and the program's exit code.

    Raises:
        UsageError: when it is no Python program.
    """
    from attnbench.capturing.launch import Program
    from attnbench.put_back.program import Settings
    from attnbench.put_back.verified import Move, Verified

    asked = Program.of(program)
    _require_rounds(rounds)
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        result = Path(folder) / "verified.json"
        settings = Settings(
            implementation=implementation, plugin=plugin, rounds=rounds, result=str(result), start=asked.start
        )
        code = asked.run("attnbench.put_back.program", settings)
        if not result.is_file():
            return None, code
        found = json.loads(result.read_text(encoding="utf-8"))
    moves = tuple(Move(**move) for move in found.pop("moves"))
    return VerifiedModel(Verified(**(found | {"moves": moves}))), code


def _require_rounds(rounds: int | None) -> None:
    if rounds is not None and rounds < 1:
        raise UsageError(f"rounds must be at least 1, not {rounds}")
