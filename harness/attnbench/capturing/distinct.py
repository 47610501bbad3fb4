"""Counts equal calls, and groups calls of similar lengths into shapes."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.interception.described import CallSpec

Mode = Literal["forward", "forward_backward"]

MOST_APART = 4
"""Up to this many kinds of calls that differ only in lengths get their own shapes; more kinds share shapes."""
_WIDEST = 1.2
"""Largest ratio of work between calls that share a shape."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Tally:
    """Calls of one kind."""

    spec: CallSpec
    api: str
    mode: Mode
    part: int = 0
    """Index, from 0, among the calls whose tensors are kept; calls of a kind are assigned in turns."""
    calls: int = 0
    seconds: float = 0.0
    layers: dict[str, int] = dataclasses.field(default_factory=dict)
    """The modules that made them, and the place of their first call among all calls."""
    memory: dict[str, None] = dataclasses.field(default_factory=dict)
    """How their tensors lie in memory."""
    inputs: str | None = None
    """File with the queries, keys and values of one of the calls, relative to the scenario."""

    @property
    def work(self) -> int:
        """Number of scores of a head, without padding, over the batch: the time of a call grows with it."""
        spec = self.spec
        real_keys = sum(spec.mask.kv_lengths or (spec.batch * spec.seqlen_kv,)) - sum(spec.mask.kv_starts or ())
        return spec.seqlen_q * real_keys

    def add(self, layer: str | None, place: int, seconds: float) -> None:
        """Count a call; ``place`` is its position among all calls."""
        self.calls += 1
        self.seconds += seconds
        if layer is not None:
            self.layers[layer] = min(place, self.layers.get(layer, place))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distinct:
    """Calls that are one shape of the scenario."""

    tally: Tally
    """The kind that represents them."""
    calls: int
    seconds: float
    layers: tuple[str, ...]
    seqlen_q: tuple[int, int]
    seqlen_kv: tuple[int, int]
    memory: tuple[str, ...]


def distinct_calls(tallies: Iterable[Tally]) -> list[Distinct]:
    """Return the shapes of a scenario, in descending order of time.

    Kinds that differ only in lengths, including those of masks, get their own shapes if they are few. If they are many,
    as in text generation, kinds whose work differs by at most a fifth share a shape. The kind whose work is nearest to
    the mean of the calls represents them.
    """
    families: dict[object, list[Tally]] = {}
    for tally in tallies:
        if tally.calls:
            families.setdefault(_family(tally), []).append(tally)
    found = [_shared(bucket) for family in families.values() for bucket in _buckets(family)]
    return sorted(found, key=lambda one: -one.seconds)


def _family(tally: Tally) -> object:
    """Return a key of all that calls must have in common to share a shape."""
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
