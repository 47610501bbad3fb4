"""The error for a file that lacks a tensor of a case."""

from __future__ import annotations

from attnbench.cases.tensors.source import without_digest
from attnbench.errors import UsageError


class TensorError(UsageError):
    """A file does not hold the tensor that a case takes from it. The message is one sentence."""


def unreadable(text: str, field: str, name: str, error: Exception) -> str:
    """Return a sentence for an exception of :data:`attnbench.cases.tensors.file.UNREADABLE`."""
    said = error.args[0] if isinstance(error, KeyError) else error
    return f"{field} = {without_digest(text)!r}: no array {name!r} could be read: {said}"
