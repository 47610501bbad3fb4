"""Requests to the processes that try mutants."""

from __future__ import annotations

import dataclasses

from attnbench.transport.message import AnswerMessage, CaseField, RequestMessage


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """A mutant, told."""

    name: str
    sentence: str
    copies: str | None
    """The real bug that it copies."""


class Mutants(AnswerMessage):
    """All mutants."""

    mutants: tuple[About, ...]


class List(RequestMessage[Mutants]):
    """Load, and tell which mutants there are."""


class Tried(AnswerMessage):
    """The check's reason for each mutant that supports the case, or ``None`` where it goes unseen."""

    said: dict[str, str | None]


class Try(RequestMessage[Tried]):
    """Try mutants on a case."""

    case: CaseField
    again: tuple[str, ...] | None
    """Only these, with identities too; all that few cases have caught so far where ``None``."""
