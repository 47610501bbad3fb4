"""The exceptions of the public interface. Each message is one clear answer; nothing is left half-written."""

from __future__ import annotations

from typing import ClassVar


class AttnbenchError(Exception):
    """Why attnbench could not do what it was asked to do."""

    exit_code: ClassVar[int]
    """The exit code of the command line."""


class UsageError(AttnbenchError, ValueError):
    """The request cannot be met as it is: a name is unknown, a file is missing, a value makes no sense."""

    exit_code = 2


class NotComparableError(AttnbenchError):
    """A stored run says nothing about this machine."""

    exit_code = 6
