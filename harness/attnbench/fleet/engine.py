"""The interface to an engine that reaches other machines: it lists places, starts holders and calls them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.fleet.luggage import Luggage


class FleetError(UsageError):
    """The machines cannot do the run."""


class HolderLostError(Exception):
    """A holder is gone or has failed; the message says why."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A device that a node offers."""

    node: str
    """The engine's name for the node."""
    name: str
    """For display: node and device."""
    device: str


class RemoteHolder(ABC):
    """A :class:`attnbench.fleet.holder.Holder` running at a place."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def call(self, method: str, *arguments: object) -> object:
        """Call a method of the holder without waiting; return a handle for :meth:`Engine.answered`."""


class Engine(ABC):
    """Reaches other machines."""

    name: str

    @abstractmethod
    def places(self) -> list[Place]:
        """Return the devices that the nodes offer."""

    @abstractmethod
    def start(self, place: Place, request: str, luggage: Luggage) -> RemoteHolder:
        """Start a holder, which begins when the place is free. See :class:`attnbench.fleet.holder.Holder`."""

    @abstractmethod
    def answered(self, calls: Sequence[object], timeout_s: float) -> list[object]:
        """Return the calls that are over (answered or lost), waiting at most ``timeout_s`` for the first."""

    @abstractmethod
    def answer(self, call: object) -> Any:
        """Return the answer of a call.

        Raises:
            FleetError: if the holder refuses the request.
            HolderLostError: if it is gone or has failed.
        """

    @abstractmethod
    def close(self) -> None:
        """End all holders, even while they measure, and disconnect."""
