"""The interface of an identity, and the findings that checking one gives."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

Arrays = dict[str, "NDArray[Any]"]
"""Tensors by name, (batch, heads, seqlen, dim) or, for an LSE, (batch, heads, seqlen); in float32 or float64."""

Needs = Literal["nothing", "a call", "another case"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """Another way to the same answer: a problem, and what its inputs are made of."""

    case: Case
    inputs: Arrays
    """``q``, ``k``, ``v`` and, with gradients, ``dout``."""
    what: str = "the same case"
    """The case in words, as a part of the one at hand."""

    @property
    def label(self) -> str:
        """For a sentence: ``the last 5 queries over all keys (forward b1 h8 s5x160 ...)``."""
        return f"{self.what} ({self.case.label()})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """How far a tensor is from what an identity says, and what that is to be compared with.

    The budget is not known here: it is made of those of the tensors (:mod:`attnbench.oracle.identities`), by the
    coefficients below. They say what becomes of the identity when each row of a tensor is wrong by the whole of its
    own budget.
    """

    tensor: str
    error: float
    """The distance, which ought to be 0; infinite where NaN or infinities do not match."""
    where: tuple[int, ...]
    """Index of the worst (batch, head, row), or (batch, key head) of a sum."""
    got: float
    """The value that the other way gave there (its norm, for a row)."""
    want: float
    row_by_row: dict[str, float] = dataclasses.field(default_factory=dict)
    """Times ``error_max``: rows are compared one by one."""
    independent: dict[str, float] = dataclasses.field(default_factory=dict)
    """Times ``error_max``, as a root of squares: errors of many rows add up, each with a sign of its own."""
    common: dict[str, float] = dataclasses.field(default_factory=dict)
    """Times ``error_rel``: one factor may be common to all rows."""
    roundings: int = 0
    """How often a weight of the sum is rounded to the dtype."""
    rows: int = 1
    """How many rows were compared."""
    floors: dict[str, float] = dataclasses.field(default_factory=dict)
    """The smallest scale that a row's error was measured on, by tensor."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowance:
    """The allowance for checking identities."""

    time_ns: float
    """An identity is left out where its calls are expected to take longer than what is left of this."""
    memory_bytes: float
    prepare_ns: float
    """How long another case may be expected to be prepared and compiled; 0 where no other case is to be called."""


class Identity(ABC):
    """One identity. Subclasses are named for what is done; the docstring's first line is what must hold."""

    needs: ClassVar[Needs] = "another case"
    """The cost of an identity: sums alone, one more call of the same case, or calls of other cases."""

    @abstractmethod
    def refuses(self, case: Case) -> str | None:
        """Why it says nothing about this case, or ``None``."""

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """The other ways; none where the results at hand are enough."""
        return []

    @abstractmethod
    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        """Compare.

        ``others`` are what the variants gave, in their order.
        """


def weights_do_not_add_up(case: Case) -> str | None:
    """Why the weights of a row that sees a key need not add up to 1, or ``None``."""
    if "sink" in case.score_mods:
        return "a sink takes part of the weight"
    return "its bias may hide all keys of a row" if "bias" in case.score_mods else None
