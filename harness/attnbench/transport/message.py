"""Typed messages between the parent and the process that runs stages, validated by the receiver.

A message is sent as one line of JSON followed by the bytes of its frames, so that large tensors are neither encoded nor
written to files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PlainSerializer, PlainValidator, ValidationError

from attnbench.cases.case import Case, make_case

if TYPE_CHECKING:
    from collections.abc import Callable

Status = Literal["wrong", "unsupported", "unavailable", "out_of_memory", "error"]
_LONGEST_LINE = 2**28
_LARGEST_FRAMES = 2**33


class ProtocolError(ValueError):
    """The bytes on the pipe are not a message, or not the expected one."""


class Message(BaseModel):
    """A message; ``frames`` are sent as raw bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: dict[str, bytes] = Field(default_factory=dict, exclude=True, repr=False)


class AnswerMessage(Message):
    """The answer to a request."""


class Done(AnswerMessage):
    """The request succeeded; there is nothing to return."""


class Failure(Message):
    """The answer to a request that failed."""

    status: Status
    reason: str = Field(min_length=1)


A_co = TypeVar("A_co", bound=AnswerMessage, covariant=True)


class RequestMessage(Message, Generic[A_co]):
    """A request; the type parameter is the type of its answer."""

    @classmethod
    def answer_type(cls) -> type[A_co]:
        """Return the type parameter."""
        arguments = (base.__pydantic_generic_metadata__["args"] for base in cls.__mro__ if issubclass(base, BaseModel))
        answer: type[A_co] = next(answer for (answer,) in filter(None, arguments))
        return answer


def _case(value: object) -> Case:
    return value if isinstance(value, Case) else make_case(**dict(value))  # type: ignore[call-overload]  # or it raises


CaseField = Annotated[Case, PlainValidator(_case), PlainSerializer(lambda case: case.to_dict())]
"""A case in a message, sent as a dictionary of its fields."""


class Envelope(NamedTuple):
    """A received message of which only the kind, the name of its class, is known."""

    kind: str
    body: dict[str, object]
    frames: dict[str, bytes]


class _Head(BaseModel):
    """The line of JSON that begins a message."""

    kind: str
    body: dict[str, object]
    frames: dict[str, NonNegativeInt]


M = TypeVar("M", bound=Message)


def opened(envelope: Envelope, *kinds: type[M]) -> M:
    """Validate a received message as one of these kinds.

    Raises:
        ProtocolError: if it is not one of them.
    """
    for kind in kinds:
        if kind.__name__ == envelope.kind:
            try:
                return kind.model_validate({**envelope.body, "frames": envelope.frames})
            except (ValidationError, TypeError, ValueError) as error:
                raise ProtocolError(f"its {envelope.kind} cannot be read: {_first_problem(error)}") from error
    due = " or ".join(kind.__name__ for kind in kinds[:2])
    raise ProtocolError(f"it sent {envelope.kind[:80]!r} where {due} is due")


def _first_problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def encode(message: Message) -> bytes:
    """Return the bytes of a message."""
    head = {
        "kind": type(message).__name__,
        "body": message.model_dump(mode="json"),
        "frames": {name: len(data) for name, data in message.frames.items()},
    }
    return b"".join([json.dumps(head).encode(), b"\n", *message.frames.values()])


class Reader:
    """Assembles messages from pieces of a stream."""

    def __init__(self) -> None:
        self._data = bytearray()

    def message(self, more: Callable[[], bytes]) -> Envelope:
        """Return the next message; ``more`` waits for the next piece.

        Raises:
            ProtocolError: if something else arrives.
        """
        while (end := self._data.find(b"\n")) < 0 and len(self._data) <= _LONGEST_LINE:
            self._data += more()
        line = self._cut(end + 1)
        try:
            head = _Head.model_validate_json(line)
        except ValidationError:
            raise ProtocolError(f"it wrote into the protocol's pipe: {line.rstrip()[:80]!r}") from None
        due = sum(head.frames.values())
        if due > _LARGEST_FRAMES:
            raise ProtocolError("it announces more than can be received")
        while len(self._data) < due:
            self._data += more()
        return Envelope(head.kind, head.body, {name: self._cut(length) for name, length in head.frames.items()})

    def _cut(self, length: int) -> bytes:
        piece = bytes(memoryview(self._data)[:length])
        del self._data[:length]
        return piece
