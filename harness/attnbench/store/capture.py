"""The stored form of a capture: ``capture.json``, next to the scenario whose shapes it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from attnbench.errors import UsageError, first_mistake
from attnbench.untrusted.printable import in_one_line
from attnbench.untrusted.regular_file import read_regular

if TYPE_CHECKING:
    from pathlib import Path

CAPTURE = "capture.json"
SCENARIO = "scenario.toml"
TENSORS = "tensors"
CAPTURE_VERSION: Literal[1] = 1
_LARGEST_BYTES, _MOST = 2**26, 100_000

Text = Annotated[str, Field(max_length=4096), AfterValidator(in_one_line)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Count = Annotated[int, Field(ge=1, le=2**53)]
Length = Annotated[int, Field(ge=1, le=2**40)]


class CaptureError(UsageError):
    """A capture cannot be read."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CapturedCall(_Stored):
    """Calls with one shape of the scenario."""

    shape: Text
    """Name of the shape in ``scenario.toml``, such as ``call-1``."""
    calls: Count
    layers: tuple[Text, ...] = Field(default=(), max_length=_MOST)
    """Names of the modules that made the calls, in the order of their first calls; empty if no module did."""
    seconds: Seconds
    """Wall time of all these calls together, forward and backward."""
    api: Text
    """The interface at which they were captured: ``transformers``, ``sdpa``, ``flex_attention`` or ``matmul``."""
    seqlen_q: tuple[Length, Length]
    """Shortest and longest length; the shape has the length of one of the calls, chosen by the calls' mean cost."""
    seqlen_kv: tuple[Length, Length]
    memory: tuple[Text, ...] = Field(default=(), max_length=_MOST)
    """How queries, keys and values lie in the model's memory: ``bhsd``, ``bshd`` (tokens before heads), or ``q bhsd, k
    bshd, v strided``; none in files of before it was kept."""

    @model_validator(mode="after")
    def _lengths_are_in_order(self) -> Self:
        if self.seqlen_q[0] > self.seqlen_q[1] or self.seqlen_kv[0] > self.seqlen_kv[1]:
            raise ValueError("a range of lengths ends before it begins")
        return self


class UnmatchedCall(_Stored):
    """Calls that were captured but have no shape in the scenario."""

    what: Text
    calls: Count
    reason: Text


class Capture(_Stored):
    """A program's attention calls, counted and timed."""

    format: Literal["attnbench-capture"] = "attnbench-capture"
    version: Literal[1] = CAPTURE_VERSION
    command: Text
    """The command line that makes the capture again, or the call from Python."""
    versions: dict[Text, Text] = Field(max_length=100)
    """Versions of attnbench, Python and torch, and of transformers if the program has imported it."""
    device: Text
    """Device of the calls: ``cpu``, ``cuda``, or both, separated by ``, ``."""
    threads: int = Field(ge=1, le=10**6)
    """Number of threads of torch's intra-op pool."""
    total_seconds: Seconds
    """Wall time of the model: the forward and backward passes of its outermost modules, or of everything captured if
    attention was computed outside of modules; without ``overhead_seconds``."""
    attention_seconds: Seconds
    """Sum of all calls' seconds."""
    overhead_seconds: Seconds
    """Time that capturing took within those passes."""
    calls: tuple[CapturedCall, ...] = Field(max_length=_MOST)
    """In descending order of ``seconds``."""
    unmatched: tuple[UnmatchedCall, ...] = Field(default=(), max_length=_MOST)
    notes: tuple[Text, ...] = Field(default=(), max_length=1000)
    """Differences between the calls and their shapes, or between this run of the model and one without capture."""

    @model_validator(mode="after")
    def _shapes_are_distinct(self) -> Self:
        if len({call.shape for call in self.calls}) < len(self.calls):
            raise ValueError("two calls have one shape")
        return self


def write_capture(capture: Capture, folder: Path) -> None:
    """Write ``capture.json`` into a folder.

    Raises:
        OSError: if it cannot be written.
    """
    (folder / CAPTURE).write_text(capture.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_capture(path: Path) -> Capture:
    """Read a capture from its file or from the folder that contains it.

    Raises:
        CaptureError: if it is unreadable or malformed.
    """
    file = path / CAPTURE if path.is_dir() else path
    try:
        return Capture.model_validate_json(read_regular(file, _LARGEST_BYTES))
    except OSError as error:
        raise CaptureError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise CaptureError(f"{file} is no capture: {first_mistake(error)}") from error
