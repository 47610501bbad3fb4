"""The ranks other than 0, which carry out rank 0's orders one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import time
from typing import TYPE_CHECKING, Any

from attnbench.untrusted.exceptions import message_of
from attnbench.worker.memory import weighing
from attnbench.worker.memory.allocator import is_out_of_memory
from attnbench.worker.output_checks import MisconductError
from attnbench.worker.ranks.part import Part
from attnbench.worker.worker import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from attnbench.cases.case import Case
    from attnbench.transport.message import RequestMessage
    from attnbench.worker.dump import Outputs
    from attnbench.worker.worker import Worker


class RankFailedError(Exception):
    """Another rank raised; the message says which one and what."""


@dataclasses.dataclass(frozen=True)
class Failed:
    """A rank's answer when something was raised."""

    reason: str
    kind: type[Exception]
    """The exception that rank 0 raises."""
    at_s: float
    """When it was raised, by the clock that all ranks share."""


class Follower:
    """A rank; rank 0 can order each of its methods, and each of its part's."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._part: Part | None = None

    @property
    def part(self) -> Part:
        """Its part of the current cell."""
        if self._part is None:
            raise RuntimeError("no cell was begun")
        return self._part

    def serve(self, request: RequestMessage[Any]) -> None:
        """Serve a request that all ranks serve alike, such as to load or to close."""
        self._part = None
        request.serve(self._worker)  # type: ignore[attr-defined]  # a worker's request
        gc.collect()
        gc.disable()

    def begin(self, case: Case, device: str, memory_bytes: int | None, shares: Mapping[str, Any]) -> int:
        """Begin a cell, and return its preparation time in ns."""
        session = self._worker.begin(case, device, memory_bytes)
        self._part = Part(session.implementation, case, shares)
        return self._part.call.prepare_ns

    def weigh(self) -> int:
        """Make one call, and return its peak in bytes."""
        return weighing.peak_of_one(self.part.run)

    def watch(self, how: str) -> tuple[int, int]:
        """See :meth:`Part.watch`; also return the bytes that the last recorded call sent."""
        return self.part.watch(how), self.part.recording.sent_bytes

    def outputs(self) -> Outputs:
        """Return this rank's share of the last call's outputs."""
        return {name: tensor.detach() for name, tensor in self.part.outputs().items()}


def follow(link: Connection, worker: Worker, rank: int) -> None:
    """Carry out orders until rank 0 closes the link. An exception ends this rank, so that none waits for it."""
    follower = Follower(worker)
    with contextlib.suppress(EOFError):
        while True:
            name, given = unpacked(link.recv_bytes())
            try:
                told = getattr(follower, name) if hasattr(Follower, name) else getattr(follower.part, name)
                answer = told(*given)
            except Exception as error:  # noqa: BLE001 - whatever an implementation raises is its answer
                link.send_bytes(packed(_failed(error, rank)))
                os._exit(0)
            link.send_bytes(packed(answer))


def _failed(error: Exception, rank: int) -> Failed:
    if isinstance(error, MisconductError):
        return Failed(f"rank {rank}: {message_of(error)}", MisconductError, time.monotonic())
    kind = MemoryError if is_out_of_memory(error) else RankFailedError
    return Failed(f"rank {rank}: {sentence(error)}", kind, time.monotonic())


def packed(message: object) -> bytes:
    """Return a message between ranks as bytes; tensors are stored as they are."""
    import io

    import torch

    stream = io.BytesIO()
    torch.save(message, stream)
    return stream.getvalue()


def unpacked(data: bytes) -> Any:
    """Return the message in the bytes of :func:`packed`, which another rank of this group made."""
    import io

    import torch

    return torch.load(io.BytesIO(data), weights_only=False)
