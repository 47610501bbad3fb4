"""Requests to the processes that try mutants."""

from __future__ import annotations

import dataclasses

from attnbench.transport.message import AnswerMessage, CaseField, RequestMessage


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """Name and description of a mutant."""

    name: str
    sentence: str
    copies: str | None
    """The real bug that it copies."""


class Mutants(AnswerMessage):
    """All mutants."""

    mutants: tuple[About, ...]


class List(RequestMessage[Mutants]):
    """List all mutants."""


class Tried(AnswerMessage):
    """The check's reason for each mutant that supports the case, by name; ``None`` if the mutant passes."""

    said: dict[str, str | None]


class Try(RequestMessage[Tried]):
    """Try mutants on a case."""

    case: CaseField
    again: tuple[str, ...] | None
    """Names of the mutants to try, also with identities; ``None`` tries all that few cases have caught so far."""
