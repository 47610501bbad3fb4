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
    """The machines cannot do the run; one sentence."""


class HolderLostError(Exception):
    """A holder is gone, or has failed: the message says why."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A device that a node offers."""

    node: str
    """The engine's name for the node."""
    name: str
    """For people: which node, which device."""
    device: str


class RemoteHolder(ABC):
    """A :class:`attnbench.fleet.holder.Holder` at a place."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def call(self, method: str, *arguments: object) -> object:
        """Call a method of the holder without waiting; the call, by which the engine knows the answer."""


class Engine(ABC):
    """Reaches the machines."""

    name: str

    @abstractmethod
    def places(self) -> list[Place]:
        """The devices that nodes offer."""

    @abstractmethod
    def start(self, place: Place, request: str, luggage: Luggage) -> RemoteHolder:
        """A holder at a place; it begins when the place is free. See :class:`attnbench.fleet.holder.Holder`."""

    @abstractmethod
    def answered(self, calls: Sequence[object], timeout_s: float) -> list[object]:
        """Return the calls that are over, answered or lost; wait until there is one, at most ``timeout_s``."""

    @abstractmethod
    def answer(self, call: object) -> Any:
        """The answer of a call.

        Raises:
            FleetError: when the holder refuses what it was asked.
            HolderLostError: when it is gone, or has failed.
        """

    @abstractmethod
    def close(self) -> None:
        """End all holders, whatever they are doing, and let the engine go."""
