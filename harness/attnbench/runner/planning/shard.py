"""Shards of a plan, for machines that share it. A case is never split, so its cells are comparable."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Self

from attnbench.cases.cost import flops, minimum_bytes
from attnbench.errors import UsageError
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attnbench.cases.case import Case

MOST = 100_000
_FLOPS_PER_S, _BYTES_PER_S, _CALLS, _LEAST_S = 2e10, 5e9, 12, 1.3
"""Speeds of a slow CPU, fixed because shards that disagreed on a case's owner would lose it or run it twice."""


class ShardError(UsageError):
    """A shard is not possible; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several parts of a plan; the first is 1."""

    index: int
    of: int

    def __post_init__(self) -> None:
        if not (1 <= self.index <= self.of <= MOST):
            raise ShardError(f"there is no shard {self}: --shard K/N, with K from 1 to N, and N at most {MOST:,}")

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @property
    def as_pair(self) -> tuple[int, int]:
        """The pair that a request keeps."""
        return (self.index, self.of)

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Parse ``K/N``.

        Raises:
            ShardError: there is no such shard.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if found is None:
            raise ShardError(f"{shown(text)} is no shard: --shard K/N, such as 3/8")
        return cls(int(found[1]), int(found[2]))

    def cases(self, cases: Mapping[str, Case]) -> set[str]:
        """Return the ids of this shard's cases.

        The longest case goes to the shard with the least work so far (Graham, "Bounds on Multiprocessing Timing
        Anomalies", 1969: the last shard to finish takes at most a third longer than in the best split).

        Args:
            cases: all cases of the plan, by id; their order does not matter.

        Raises:
            ShardError: there are more shards than cases.
        """
        if self.of > len(cases):
            raise ShardError(
                f"{self.of} shards are more than the {len(cases)} cases of the scenario, and none is split"
            )
        seconds = {case_id: _seconds(case) for case_id, case in cases.items()}
        loads = [0.0] * self.of
        mine: set[str] = set()
        for case_id in sorted(cases, key=lambda one: (-seconds[one], one)):
            least = loads.index(min(loads))
            loads[least] += seconds[case_id]
            if least == self.index - 1:
                mine.add(case_id)
        return mine


def missing_shards(of: int, found: Iterable[Shard]) -> list[int]:
    """Return the numbers of the missing shards."""
    return sorted({*range(1, of + 1)} - {one.index for one in found})


def _seconds(case: Case) -> float:
    call = flops(case) / _FLOPS_PER_S + minimum_bytes(case) / _BYTES_PER_S
    return _LEAST_S + _CALLS * call
