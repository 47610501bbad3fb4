"""The exceptions of the public interface. Each message is one clear answer; nothing is left half-written."""

from __future__ import annotations

from typing import ClassVar


class AttnbenchError(Exception):
    """Why attnbench could not do what it was asked to do."""

    exit_code: ClassVar[int]
    """What the command line ends with."""


class UsageError(AttnbenchError, ValueError):
    """What was asked for cannot be done as asked: a name is unknown, a file is missing, a value makes no sense."""

    exit_code = 2


class NotComparableError(AttnbenchError):
    """A stored run says nothing about this machine."""

    exit_code = 6
