"""The error and sentence for a file that lacks what a case takes from it."""

from __future__ import annotations

from attnbench.cases.tensors.source import without_digest
from attnbench.errors import UsageError


class TensorError(UsageError):
    """A file does not hold the tensor that a case takes from it. One sentence."""


def unreadable(text: str, field: str, name: str, error: Exception) -> str:
    """A sentence for an exception of reading an array, one of :data:`attnbench.cases.tensors.file.UNREADABLE`."""
    said = error.args[0] if isinstance(error, KeyError) else error
    return f"{field} = {without_digest(text)!r}: no array {name!r} could be read: {said}"
