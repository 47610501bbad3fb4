"""How cost grows with the sequence length: whether head follows a steeper law than base, in time or in peak memory.

Cells that differ in their length alone make a series. Two questions are asked of it: is the exponent of head's law
above that of base, and does what head adds to base grow by a steeper law than base itself? The second one sees a
quadratic term that is still small beside a linear one at the lengths which were measured.
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
"""Smaller differences do not count, however sure they are."""
MEMORY_FLOOR_BYTES = 64 * 2**10

ANOTHER_LAW = 0.5
"""An exponent of head's extra cost above base's by more than this is another law."""
FARTHER = 8
"""A sentence tells what becomes of a steeper term at so many times the longest length."""
USUAL = {"time": 2.0, "memory": 1.0}
"""The least growth of attention, where base's own is not seen: n^2 products, n outputs."""
_SEEN = 2
"""A peak of more than so many times the method's resolution is read nearly the same in each process."""
_FOLLOWS_THE_LENGTH = (
    "seqlen_q", "seqlen_kv", *(name for name, parameter in PARAMETERS.items() if parameter.default is None),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Cells of one implementation whose cases differ in sequence length alone, by length."""

    cells: tuple[Observed, ...]

    @property
    def lengths(self) -> list[int]:
        """Keys of each case."""
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
        """The longest cell's, without its length."""
        longest = self.longest
        lengths = f" s{longest.case.seqlen_kv} " if _is_square(longest) else f"x{longest.case.seqlen_kv} "
        return longest.label.replace(lengths, " ")

    @property
    def axis(self) -> str:
        """The axis that grows: ``seqlen`` or ``seqlen_kv``."""
        return "seqlen" if _is_square(self.longest) else "seqlen_kv"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steeper:
    """The cost that one side has on top of the other, where it grows by another law than the rest."""

    added: Interval
    """Its exponent between a quarter of the longest length and that; without an upper end (infinite) where it is not
    told from nothing at the quarter."""
    share: float
    """Its share of what remains at the longest length."""
    sure: bool
    """Whether the whole interval lies above what would be the same law."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingChange:
    """How one quantity of a series grows on both sides."""

    quantity: Quantity
    base: Scaling | Refusal
    head: Scaling | Refusal
    adds: Steeper | None
    """The steeper law of what head adds to base, if it follows one."""
    saves: Steeper | None
    """The steeper law of what head saves, if it is steeper than head's own."""
    rise: float
    """Logarithm of head over base at the longest length, less the least one of the shorter lengths that are points
    of a law; 0 where there are none."""
    fall: float
    """The same of base over head."""

    @property
    def has_laws(self) -> bool:
        """Whether both sides follow one."""
        return isinstance(self.base, Scaling) and isinstance(self.head, Scaling)

    @property
    def refusal(self) -> str | None:
        """Why nothing can be said; one phrase."""
        if self.adds or self.saves or self.has_laws:
            return None
        refused = self.base if isinstance(self.base, Refusal) else self.head
        assert isinstance(refused, Refusal)
        return refused.reason

    @property
    def exponents(self) -> tuple[Interval | None, Interval | None]:
        """Exponents of base and head; a steeper term beside a law stands for the whole."""
        base = self.saves.added if self.saves else _exponent(self.base)
        return base, self.adds.added if self.adds else _exponent(self.head)

    def steeper(self, tolerated: float) -> bool:
        """Whether head's law is surely steeper, by more than what is tolerated."""
        if self.adds is not None and self.adds.sure:
            return True
        return _is_above(self.head, self.base, tolerated, self.rise) and _apart(self.head, self.base)

    def flatter(self, tolerated: float) -> bool:
        """Whether base's law is surely steeper, by more than what is tolerated."""
        if self.saves is not None and self.saves.sure:
            return True
        return _is_above(self.base, self.head, tolerated, self.fall) and _apart(self.base, self.head)

    def perhaps_steeper(self, tolerated: float) -> bool:
        """Whether head's law looks steeper, sure or not."""
        return self.adds is not None or _is_above(self.head, self.base, tolerated, self.rise)

    def changed(self, tolerated: float) -> bool:
        """Whether it deserves a second look."""
        flatter = self.saves is not None or _is_above(self.base, self.head, tolerated, self.fall)
        return flatter or self.perhaps_steeper(tolerated)


def series_of(cells: Iterable[Observed]) -> list[Series]:
    """All series of two lengths or more, from cells that are ok on both sides.

    Where two cases have the same length (say, of other documents) none of them is taken for a point of a curve.
    """
    found = []
    for members in grouped((cell for cell in cells if cell.both_ok), _family).values():
        ordered = sorted(members, key=lambda cell: cell.case.seqlen_kv)
        lengths = [cell.case.seqlen_kv for cell in ordered]
        if 1 < len(lengths) == len(set(lengths)):
            found.append(Series(cells=tuple(ordered)))
    return found


def growth_of(series: Series, quantity: Quantity) -> ScalingChange | None:
    """Fit the laws of both sides, and of what the one has more than the other.

    Returns:
        ``None`` where the quantity was not measured at two lengths on both sides.
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
    """How every series grows, in both quantities, by its longest cell."""
    return {
        (series.key, quantity): (series, growth)
        for series in series_of(cells.values())
        for quantity in QUANTITIES
        if (growth := growth_of(series, quantity)) is not None
    }


def growth_again(series: Series, quantity: Quantity, fresh: Mapping[CellKey, Observed]) -> ScalingChange | None:
    """How a series grows in fresh processes; ``None`` where these do not have all of it."""
    again = tuple(fresh[cell.key] for cell in series.cells if cell.key in fresh)
    return growth_of(Series(cells=again), quantity) if len(again) == len(series.cells) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extra:
    """The cost that one side has on top of the other at a length."""

    length: int
    value: float
    half: float
    """Half of its 95 % interval; infinite where that is not known."""


def _extra(
    cell: Observed, quantity: Quantity, base: Sequence[float], head: Sequence[float]
) -> tuple[float, float]:  # fmt: skip
    """The difference, head less base, and half of its interval: by rounds for time, by the method for memory."""
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
    """The law of what one side has more, where it looks like another one than that of the rest.

    It must be seen at the two longest lengths, which tells a law from a step, and must be less than nothing at none,
    which tells it from another floor. Its exponent is that from a quarter of the longest length to the longest. What
    is more than the rest is no term beside it: there the two laws themselves differ.
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
    # A law that misses its data may be flatter than these are where the extra is weighed.
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
    """Whether the exponent of one is higher than that of the other by more than what is tolerated.

    The ratio of the two must rise with the length, too, by half of what the tolerated exponent makes of the narrowest
    range of lengths: a cliff that is seen on one side alone bends a law, and leaves the ratio as it is.
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
    """The least difference that counts, as for a single cell."""
    if quantity == "time":
        return TIME_FLOOR_NS.get(longest.key[2], 0.0)
    return max(float(MEMORY_FLOOR_BYTES), 2 * _resolution(longest))


def _values(cell: Observed, quantity: Quantity) -> tuple[list[float], list[float]] | None:
    """Values of base and head, equally many: one from each round that timed both; of memory the least peak.

    A peak is only ever disturbed upwards.
    """
    if quantity == "memory":
        peaks = cell.base.peaks, cell.head.peaks
        weighed = all(read and min(read) > 0 for read in peaks)
        return ([float(min(peaks[0]))], [float(min(peaks[1]))]) if weighed else None
    both = [(b, h) for b, h in zip(cell.base.medians, cell.head.medians, strict=False) if b > 0 and h > 0]
    return ([b for b, _ in both], [h for _, h in both]) if both else None


def _is_seen(cell: Observed) -> bool:
    """Whether the peaks of both sides are points of a law: a smaller one may be read a third too small.

    The kernel's count lags by as much as the resolution, and by another part of it in each process.
    """
    return min(*cell.base.peaks, *cell.head.peaks) > _SEEN * _resolution(cell)


def _resolution(cell: Observed) -> float:
    return float(max(cell.base.resolution_bytes, cell.head.resolution_bytes))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _is_square(cell: Observed) -> bool:
    return cell.case.seqlen_q == cell.case.seqlen_kv


def _family(cell: Observed) -> tuple[object, ...]:
    """The key that the cells of a series share: all but their lengths, and seqlen_q where only the keys grow."""
    case = {name: value for name, value in dataclasses.asdict(cell.case).items() if name not in _FOLLOWS_THE_LENGTH}
    return (cell.key[1], cell.key[2], None if _is_square(cell) else cell.case.seqlen_q, *case.values())
