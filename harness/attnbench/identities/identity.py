"""The interface of an identity, and the findings of checking one."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

Arrays = dict[str, "NDArray[Any]"]
"""Tensors by name, (batch, heads, seqlen, dim) or, for an LSE, (batch, heads, seqlen), in float32 or float64."""

Needs = Literal["nothing", "a call", "another case"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """Another way to the same answer: a case and its inputs."""

    case: Case
    inputs: Arrays
    """``q``, ``k``, ``v`` and, with gradients, ``dout``."""
    what: str = "the same case"
    """The case in words, as a part of the current one."""

    @property
    def label(self) -> str:
        """The variant in words: ``the last 5 queries over all keys (forward b1 h8 s5x160 ...)``."""
        return f"{self.what} ({self.case.label()})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """The distance of a tensor from an identity, and the coefficients of its budget.

    The budget itself is computed from those of the tensors (:mod:`attnbench.oracle.identities`) with the coefficients
    below. They say how far the identity is off if each row of a tensor is wrong by the whole of its own budget.
    """

    tensor: str
    error: float
    """The distance, ideally 0; infinite if NaN or infinities do not match."""
    where: tuple[int, ...]
    """Index of the worst (batch, head, row), or (batch, key head) of a sum."""
    got: float
    """The other way's value there (for a row, its norm)."""
    want: float
    row_by_row: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor of ``error_max``: rows are compared one by one."""
    independent: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor of ``error_max``, a root of squares: errors of many rows with independent signs add up."""
    common: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor of ``error_rel``: all rows may share one wrong factor."""
    roundings: int = 0
    """How often a weight of the sum is rounded to the dtype."""
    rows: int = 1
    """The number of compared rows."""
    floors: dict[str, float] = dataclasses.field(default_factory=dict)
    """The smallest scale for a row's error, by tensor."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowance:
    """The time and memory that checking identities may take."""

    time_ns: float
    """An identity is skipped if its calls are expected to take longer than what is left of this."""
    memory_bytes: float
    prepare_ns: float
    """How long another case's preparation and compilation may take; 0 if no other case is to be called."""


class Identity(ABC):
    """An identity. A subclass is named after what it does; the first line of its docstring is what must hold."""

    needs: ClassVar[Needs] = "another case"
    """The cost of an identity: only sums, one more call of the same case, or calls of other cases."""

    @abstractmethod
    def refuses(self, case: Case) -> str | None:
        """Return why the identity does not apply to this case, or ``None``."""

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return the other ways; none if the current results suffice."""
        return []

    @abstractmethod
    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        """Compare the results with ``others``, the results of the variants in their order."""


def weights_do_not_add_up(case: Case) -> str | None:
    """Return why the weights of a row that sees a key need not sum to 1, or ``None``."""
    if "sink" in case.score_mods:
        return "a sink takes part of the weight"
    return "its bias may hide all keys of a row" if "bias" in case.score_mods else None
