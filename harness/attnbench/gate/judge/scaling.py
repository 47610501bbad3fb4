"""Growth with the sequence length: whether head follows a steeper law than base, in time or in peak memory.

Cells that differ only in their length form a series. Two questions are asked about it: is the exponent of head's law
above that of base, and does the cost that head adds to base grow faster than base itself? The second detects a
quadratic term that is still small next to a linear one at the measured lengths.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import TYPE_CHECKING, Literal, get_args

from attnbench.cases.masks.table import PARAMETERS
from attnbench.gate.judge.inference import LEAST_ROUNDS, student_quantile
from attnbench.grouping import grouped
from attnbench.scaling import FEWEST_SIZES, NARROWEST, Interval, Refusal, Scaling, fit_scaling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnbench.gate.judge.cell_data import Observed
    from attnbench.store.record import CellKey

Quantity = Literal["time", "memory"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

TIME_FLOOR_NS = {"cpu": 5_000.0, "cuda": 1_000.0}
"""Smaller differences do not count, however certain they are."""
MEMORY_FLOOR_BYTES = 64 * 2**10

ANOTHER_LAW = 0.5
"""Extra cost counts as another law if its exponent is above base's by more than this."""
FARTHER = 8
"""Messages extrapolate a steeper term to this many times the longest length."""
USUAL = {"time": 2.0, "memory": 1.0}
"""Growth assumed for attention when base's own cannot be fitted: n^2 products, n outputs."""
_SEEN = 2
"""A peak above this multiple of the method's resolution reads nearly the same in each process."""
_FOLLOWS_THE_LENGTH = (
    "seqlen_q", "seqlen_kv", *(name for name, parameter in PARAMETERS.items() if parameter.default is None),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Cells of one implementation whose cases differ only in sequence length, shortest first."""

    cells: tuple[Observed, ...]

    @property
    def lengths(self) -> list[int]:
        """``seqlen_kv`` of each case."""
        return [cell.case.seqlen_kv for cell in self.cells]

    @property
    def longest(self) -> Observed:
        """The cell that a verdict on the series is filed under."""
        return self.cells[-1]

    @property
    def key(self) -> CellKey:
        """Key of the longest cell."""
        return self.longest.key

    @property
    def label(self) -> str:
        """Label of the longest cell, without its length."""
        longest = self.longest
        lengths = f" s{longest.case.seqlen_kv} " if _is_square(longest) else f"x{longest.case.seqlen_kv} "
        return longest.label.replace(lengths, " ")

    @property
    def axis(self) -> str:
        """The axis that varies: ``seqlen`` or ``seqlen_kv``."""
        return "seqlen" if _is_square(self.longest) else "seqlen_kv"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steeper:
    """The extra cost of one side over the other, when it grows by another law than the rest."""

    added: Interval
    """Exponent of the extra cost between a quarter of the longest length and the longest; unbounded above (infinite) if
    the extra cost at the quarter cannot be told from zero."""
    share: float
    """The extra cost at the longest length, as a share of the rest."""
    sure: bool
    """Whether the whole interval lies above the exponents that count as the same law."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingChange:
    """How one quantity of a series grows on both sides."""

    quantity: Quantity
    base: Scaling | Refusal
    head: Scaling | Refusal
    adds: Steeper | None
    """The steeper law of what head adds to base, if it follows one."""
    saves: Steeper | None
    """The steeper law of what head saves over base, if it is steeper than head's own."""
    rise: float
    """ln(head / base) at the longest length, minus its minimum over the shorter lengths used in the fit; 0 without
    any."""
    fall: float
    """The same for base over head."""

    @property
    def has_laws(self) -> bool:
        """Whether a law was fitted on both sides."""
        return isinstance(self.base, Scaling) and isinstance(self.head, Scaling)

    @property
    def refusal(self) -> str | None:
        """Why no verdict is possible, as a phrase; ``None`` if one is."""
        if self.adds or self.saves or self.has_laws:
            return None
        refused = self.base if isinstance(self.base, Refusal) else self.head
        assert isinstance(refused, Refusal)
        return refused.reason

    @property
    def exponents(self) -> tuple[Interval | None, Interval | None]:
        """Exponents of base and head; a steeper term next to a law replaces that side's exponent."""
        base = self.saves.added if self.saves else _exponent(self.base)
        return base, self.adds.added if self.adds else _exponent(self.head)

    def steeper(self, tolerated: float) -> bool:
        """Whether head's law is certainly steeper, by more than is tolerated."""
        if self.adds is not None and self.adds.sure:
            return True
        return _is_above(self.head, self.base, tolerated, self.rise) and _apart(self.head, self.base)

    def flatter(self, tolerated: float) -> bool:
        """Whether base's law is certainly steeper, by more than is tolerated."""
        if self.saves is not None and self.saves.sure:
            return True
        return _is_above(self.base, self.head, tolerated, self.fall) and _apart(self.base, self.head)

    def perhaps_steeper(self, tolerated: float) -> bool:
        """Whether head's law looks steeper, certain or not."""
        return self.adds is not None or _is_above(self.head, self.base, tolerated, self.rise)

    def changed(self, tolerated: float) -> bool:
        """Whether the growth seems to have changed, so that it needs confirming."""
        flatter = self.saves is not None or _is_above(self.base, self.head, tolerated, self.fall)
        return flatter or self.perhaps_steeper(tolerated)


def series_of(cells: Iterable[Observed]) -> list[Series]:
    """Return all series of at least two lengths, from cells that are ok on both sides.

    Cells are left out if two of their cases have the same length (with other documents, say).
    """
    found = []
    for members in grouped((cell for cell in cells if cell.both_ok), _family).values():
        ordered = sorted(members, key=lambda cell: cell.case.seqlen_kv)
        lengths = [cell.case.seqlen_kv for cell in ordered]
        if 1 < len(lengths) == len(set(lengths)):
            found.append(Series(cells=tuple(ordered)))
    return found


def growth_of(series: Series, quantity: Quantity) -> ScalingChange | None:
    """Fit the laws of both sides, and of the extra cost of each over the other.

    Returns:
        ``None`` if the quantity was not measured at two lengths on both sides.
    """
    points = [(cell, values) for cell in series.cells if (values := _values(cell, quantity))]
    if len(points) < 2:
        return None
    lengths = [cell.case.seqlen_kv for cell, _ in points]
    base = [values[0] for _, values in points]
    head = [values[1] for _, values in points]
    seen = [row for row, (cell, _) in enumerate(points) if quantity == "time" or _is_seen(cell)]
    laws = [fit_scaling([lengths[row] for row in seen], [side[row] for row in seen]) for side in (base, head)]
    ratios = [math.log(_mean(head[row]) / _mean(base[row])) for row in seen]
    extras = [_extra(cell, quantity, b, h) for (cell, _), b, h in zip(points, base, head, strict=True)]
    more = [Extra(length=n, value=v, half=half) for n, (v, half) in zip(lengths, extras, strict=True)]
    less = [dataclasses.replace(extra, value=-extra.value) for extra in more]
    floor = _floor(series.longest, quantity)
    return ScalingChange(
        quantity=quantity,
        base=laws[0],
        head=laws[1],
        adds=_another_law(more, [_mean(b) for b in base], floor, laws[0], laws[1], USUAL[quantity]),
        saves=_another_law(less, [_mean(h) for h in head], floor, laws[1], laws[0], USUAL[quantity]),
        rise=ratios[-1] - min(ratios[:-1]) if len(ratios) > 1 else 0.0,
        fall=max(ratios[:-1]) - ratios[-1] if len(ratios) > 1 else 0.0,
    )


def growths_of(cells: Mapping[CellKey, Observed]) -> dict[tuple[CellKey, Quantity], tuple[Series, ScalingChange]]:
    """Return the growth of every series in both quantities, by the key of its longest cell."""
    return {
        (series.key, quantity): (series, growth)
        for series in series_of(cells.values())
        for quantity in QUANTITIES
        if (growth := growth_of(series, quantity)) is not None
    }


def growth_again(series: Series, quantity: Quantity, fresh: Mapping[CellKey, Observed]) -> ScalingChange | None:
    """Return the growth of a series in fresh processes; ``None`` unless they have all of its cells."""
    again = tuple(fresh[cell.key] for cell in series.cells if cell.key in fresh)
    return growth_of(Series(cells=again), quantity) if len(again) == len(series.cells) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extra:
    """The extra cost of one side over the other at one length."""

    length: int
    value: float
    half: float
    """Half of its 95 % interval; infinite if unknown."""


def _extra(
    cell: Observed, quantity: Quantity, base: Sequence[float], head: Sequence[float]
) -> tuple[float, float]:  # fmt: skip
    """Return head minus base and half of its interval: from the rounds for time, from the method for memory."""
    apart = [h - b for b, h in zip(base, head, strict=True)]
    if quantity == "memory":
        off = _resolution(cell) / 2 if _is_seen(cell) else _resolution(cell)
        return _mean(apart), max(MEMORY_FLOOR_BYTES / 2, off)
    if len(apart) < LEAST_ROUNDS:
        return _mean(apart), math.inf
    sd = statistics.stdev(apart)
    return _mean(apart), student_quantile(0.975, len(apart) - 1) * sd / math.sqrt(len(apart))


def _another_law(
    extras: Sequence[Extra],
    rest: Sequence[float],
    floor: float,
    law: Scaling | Refusal,
    whole: Scaling | Refusal,
    usual: float,
) -> Steeper | None:
    """Fit the law of one side's extra cost, if it looks different from the law of the rest.

    The extra must show at the two longest lengths, so that it is no step, and must not be negative at any length, so
    that it is no difference of floors. Its exponent is fitted between a quarter of the longest length and the longest.
    An extra that exceeds the rest is not treated as a term: in that case the two laws themselves are compared.
    """
    if isinstance(law, Scaling) and isinstance(whole, Scaling) and extras[-1].value > rest[-1]:
        return None
    if len(extras) < FEWEST_SIZES or extras[-1].length < NARROWEST * extras[0].length:
        return None
    *shorter, second, longest = extras
    if longest.value - longest.half <= floor or second.value - second.half <= 0:
        return None
    if any(extra.value + extra.half < 0 for extra in shorter):
        return None
    row = max(row for row, extra in enumerate(shorter) if 4 * extra.length <= longest.length)
    quarter = shorter[row]
    if not 0 < quarter.half < math.inf:  # without an interval nothing is sure
        return None
    wide = math.log(longest.length / quarter.length)
    # A law that fits its data badly may be flatter than the data over this range.
    there = math.log(rest[-1] / rest[row]) / wide
    highest = max(there, law.exponent.high if isinstance(law, Scaling) else usual) + ANOTHER_LAW
    low = math.log((longest.value - longest.half) / (max(quarter.value, 0.0) + quarter.half)) / wide
    value = math.log(longest.value / max(quarter.value, quarter.half)) / wide
    seen = quarter.value - quarter.half
    high = math.log((longest.value + longest.half) / seen) / wide if seen > 0 else math.inf
    last = math.log(longest.value / second.value) / math.log(longest.length / second.length)
    if min(value, last) <= highest:
        return None
    return Steeper(
        added=Interval(value=value, low=low, high=high), share=longest.value / rest[-1], sure=low > highest
    )  # fmt: skip


def _exponent(law: Scaling | Refusal) -> Interval | None:
    return None if isinstance(law, Refusal) else law.exponent


def _is_above(one: Scaling | Refusal, other: Scaling | Refusal, tolerated: float, rise: float) -> bool:
    """Whether the exponent of ``one`` exceeds that of ``other`` by more than is tolerated.

    The ratio of the two must also rise with the length, by half of what the tolerated exponent gives over the narrowest
    range of lengths: a cliff that is recognised on one side alone bends that side's law but not the ratio.
    """
    if isinstance(one, Refusal) or isinstance(other, Refusal):
        return False
    return one.exponent.value - other.exponent.value > tolerated and rise > tolerated * math.log(NARROWEST) / 2


def _apart(one: Scaling | Refusal, other: Scaling | Refusal) -> bool:
    """Whether the whole interval of one exponent lies above that of the other."""
    assert isinstance(one, Scaling)
    assert isinstance(other, Scaling)
    return one.exponent.low > other.exponent.high


def _floor(longest: Observed, quantity: Quantity) -> float:
    """Return the smallest difference that counts, as for a single cell."""
    if quantity == "time":
        return TIME_FLOOR_NS.get(longest.key[2], 0.0)
    return max(float(MEMORY_FLOOR_BYTES), 2 * _resolution(longest))


def _values(cell: Observed, quantity: Quantity) -> tuple[list[float], list[float]] | None:
    """Return equally many values of base and head: for time one per round that timed both, for memory the lowest peak.

    Disturbances only add to a peak.
    """
    if quantity == "memory":
        peaks = cell.base.peaks, cell.head.peaks
        weighed = all(read and min(read) > 0 for read in peaks)
        return ([float(min(peaks[0]))], [float(min(peaks[1]))]) if weighed else None
    both = [(b, h) for b, h in zip(cell.base.medians, cell.head.medians, strict=False) if b > 0 and h > 0]
    return ([b for b, _ in both], [h for _, h in both]) if both else None


def _is_seen(cell: Observed) -> bool:
    """Whether the peaks of both sides are large enough to fit: smaller ones may read a third too low.

    The kernel's count lags by up to the resolution, and by a different amount in each process.
    """
    return min(*cell.base.peaks, *cell.head.peaks) > _SEEN * _resolution(cell)


def _resolution(cell: Observed) -> float:
    return float(max(cell.base.resolution_bytes, cell.head.resolution_bytes))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _is_square(cell: Observed) -> bool:
    return cell.case.seqlen_q == cell.case.seqlen_kv


def _family(cell: Observed) -> tuple[object, ...]:
    """Return the key of a cell's series: everything but the lengths, plus seqlen_q if only the keys grow."""
    case = {name: value for name, value in dataclasses.asdict(cell.case).items() if name not in _FOLLOWS_THE_LENGTH}
    return (cell.key[1], cell.key[2], None if _is_square(cell) else cell.case.seqlen_q, *case.values())
