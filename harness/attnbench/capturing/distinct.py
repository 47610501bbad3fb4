"""Calls that are the same work, counted: as they come, and in buckets of like lengths."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.interception.described import CallSpec

Mode = Literal["forward", "forward_backward"]

MOST_APART = 4
"""Up to so many kinds of calls that differ in lengths alone keep a shape each; of more, several share one."""
_WIDEST = 1.2
"""Within a shape: the most work of a call over the least."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Tally:
    """Calls of one kind."""

    spec: CallSpec
    api: str
    mode: Mode
    part: int = 0
    """Which of the N calls whose tensors are kept this one is, from 0."""
    calls: int = 0
    seconds: float = 0.0
    layers: dict[str, int] = dataclasses.field(default_factory=dict)
    """The modules that made them, and the place of their first call among all calls."""
    memory: dict[str, None] = dataclasses.field(default_factory=dict)
    """How their tensors lie in memory."""
    inputs: str | None = None
    """File of the queries, keys and values of one of them, relative to the scenario."""

    @property
    def work(self) -> int:
        """Scores of a head if nothing but padding is skipped: what the time of a call grows with."""
        spec = self.spec
        real_keys = sum(spec.mask.kv_lengths or (spec.batch * spec.seqlen_kv,)) - sum(spec.mask.kv_starts or ())
        return spec.seqlen_q * real_keys

    def add(self, layer: str | None, place: int, seconds: float) -> None:
        """Count a call; ``place`` is its number among all calls."""
        self.calls += 1
        self.seconds += seconds
        if layer is not None:
            self.layers[layer] = min(place, self.layers.get(layer, place))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distinct:
    """Calls that become one shape of the scenario."""

    tally: Tally
    """The kind that stands for all."""
    calls: int
    seconds: float
    layers: tuple[str, ...]
    seqlen_q: tuple[int, int]
    seqlen_kv: tuple[int, int]
    memory: tuple[str, ...]


def distinct_calls(tallies: Iterable[Tally]) -> list[Distinct]:
    """The shapes of a scenario, by falling time.

    Kinds that differ only in lengths and in what masks are made of stay apart where they are few. Of many, as in
    generation, those share a shape whose work differs by at most a fifth, and the one stands for them whose work is
    nearest to the mean of their calls.
    """
    families: dict[object, list[Tally]] = {}
    for tally in tallies:
        if tally.calls:
            families.setdefault(_family(tally), []).append(tally)
    found = [_shared(bucket) for family in families.values() for bucket in _buckets(family)]
    return sorted(found, key=lambda one: -one.seconds)


def _family(tally: Tally) -> object:
    """Everything that calls must have in common to share a shape."""
    fields = {name: value for name, value in tally.spec.fields().items() if name not in _LENGTHS}
    is_decode = tally.spec.seqlen_q == 1
    return (tally.api, tally.mode, tally.part, is_decode, *sorted(fields.items(), key=lambda item: item[0]))


_LENGTHS = ("seqlen_q", "seqlen_kv", "kv_lengths", "kv_starts", "document_lengths")


def _buckets(family: Sequence[Tally]) -> Iterable[list[Tally]]:
    if len(family) <= MOST_APART:
        return [[tally] for tally in family]
    buckets: list[list[Tally]] = []
    for tally in sorted(family, key=lambda tally: tally.work):
        if not buckets or tally.work > _WIDEST * buckets[-1][0].work:
            buckets.append([])
        buckets[-1].append(tally)
    return buckets


def _shared(bucket: Sequence[Tally]) -> Distinct:
    calls = sum(tally.calls for tally in bucket)
    mean = sum(tally.calls * tally.work for tally in bucket) / calls
    first: dict[str, int] = {}
    for layer, place in (item for tally in bucket for item in tally.layers.items()):
        first[layer] = min(place, first.get(layer, place))
    queries, keys = ([getattr(tally.spec, name) for tally in bucket] for name in ("seqlen_q", "seqlen_kv"))
    return Distinct(
        tally=min(bucket, key=lambda tally: abs(tally.work - mean)),
        calls=calls,
        seconds=max(0.0, math.fsum(tally.seconds for tally in bucket)),
        layers=tuple(sorted(first, key=lambda layer: first[layer])),
        seqlen_q=(min(queries), max(queries)),
        seqlen_kv=(min(keys), max(keys)),
        memory=tuple({order: None for tally in bucket for order in tally.memory}),
    )
