"""Exceptions of the public interface. Each message is one clear sentence; nothing is left half-written."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError


class AttnbenchError(Exception):
    """Base class: attnbench cannot do what it was asked to do."""

    exit_code: ClassVar[int]
    """Exit code of the command line."""


class UsageError(AttnbenchError, ValueError):
    """The request cannot be met: a name is unknown, a file is missing, or a value is invalid."""

    exit_code = 2


class NotComparableError(AttnbenchError):
    """A stored run cannot be compared with runs on this machine."""

    exit_code = 6


def first_mistake(error: ValidationError) -> str:
    """Return the first mistake that pydantic found, with its place if it has one."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
