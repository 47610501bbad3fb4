"""The exceptions of the public interface. Each message is one clear answer; nothing is left half-written."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError


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


def first_mistake(error: ValidationError) -> str:
    """The first of what pydantic has found wrong: its place, where it has one, and a few words."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
