"""When the gate calls a scaling law steeper, from readings of single processes; one reason per test."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence

import pytest

from attnbench.cases.case import make_case
from attnbench.gate.gate import cells_to_confirm, growth_verdicts, screen_cells
from attnbench.gate.judge.cell_data import Observed, SideOfCell
from attnbench.gate.judge.scaling import Quantity, ScalingChange, Series, growth_of, series_of
from attnbench.gate.judge.statistics import Rules
from attnbench.gate.judge.verdicts import growth_verdict
from attnbench.scaling import Refusal, Scaling, fit_scaling
from attnbench.store.record import CellKey

KIB, MIB = 2**10, 2**20
PAGE = 4 * KIB
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
Law = Callable[[int], float]
TOLERATED = 0.1

SHORT = {32: (8, 8, 8, 8, 14, 26, 26, 27, 28, 33, 40, 41), 64: (32, 32, 32, 32, 32, 33, 34, 40, 46, 48, 48, 50)}
"""Peaks in pages, of one kernel in twelve processes, at lengths below twice the resolution of 32 pages."""


def side(*, peaks: Sequence[float] = (), times: Sequence[float] = (), status: str = "ok") -> SideOfCell:
    """Return a side with one record per process, with its peak in bytes and its median in nanoseconds."""
    return SideOfCell(
        records=tuple(
            {
                "status": status, "reason": "as asked", "repro": "attnbench run", "time_median_ns": time,
                "time_samples_ns": None if time is None else [time], "memory_resolution_bytes": 128 * KIB,
                "memory_peak_bytes": None if peak is None else round(peak),
            }
            for peak, time in itertools.zip_longest(peaks, times)
        )
    )  # fmt: skip


def of_memory(base: Law, head: Law, lengths: Sequence[int] = LENGTHS) -> Series:
    """Return a series in which two processes per side read the same peak."""
    cells = []
    for n in lengths:
        case = make_case(seqlen_q=n)
        sides = {"base": side(peaks=[base(n)] * 2), "head": side(peaks=[head(n)] * 2)}
        cells.append(Observed(key=(case.case_id, "mine/plain", "cpu"), case=case, **sides))
    return Series(cells=tuple(cells))


def of_time(base: Law, head: Law, *, noise: float = 0.002, rounds: int = 4) -> Series:
    """Return a series in which each process has independent noise."""
    rng = random.Random(1)
    cells = []
    for n in LENGTHS:
        case = make_case(seqlen_q=n)
        sides = {
            name: side(times=[law(n) * math.exp(noise * rng.gauss(0, 1)) for _ in range(rounds)])
            for name, law in (("base", base), ("head", head))
        }
        cells.append(Observed(key=(case.case_id, "mine/plain", "cpu"), case=case, **sides))
    return Series(cells=tuple(cells))


def grown(series: Series, quantity: Quantity = "memory") -> ScalingChange:
    growth = growth_of(series, quantity)
    assert growth is not None
    return growth


def verdict(series: Series, again: Series | None) -> str | None:
    """Return the verdict on memory, given the readings of fresh processes."""
    second = grown(again) if again is not None else None
    found = growth_verdict(series, "memory", grown(series), second, TOLERATED)
    return found.verdict if found is not None else None


def linear(n: int) -> float:
    return 4096.0 * n


class TestShortLengths:
    """Below twice its resolution the method's readings vary between processes, and are up to a third too small."""

    @staticmethod
    def series(rng: random.Random, lengths: Sequence[int], added: float) -> Series:
        def read(n: int, more: float) -> float:
            pages = rng.choice(SHORT[n]) if n in SHORT else n - 11 + rng.choice((0, 0, 1))
            return PAGE * (pages + int(rng.random() * more // PAGE if n in SHORT else more // PAGE))

        cells = []
        for n in lengths:
            case = make_case(seqlen_q=n)
            sides = {
                name: side(peaks=[read(n, more * n * n) for _ in range(2)])
                for name, more in (("base", 0.0), ("head", added))
            }
            cells.append(Observed(key=(case.case_id, "mine/plain", "cpu"), case=case, **sides))
        return Series(cells=tuple(cells))

    @pytest.mark.parametrize("shortest", [32, 64])
    def test_they_hide_no_steeper_term_of_the_longer_ones(self, shortest: int) -> None:
        lengths = [n for n in (32, 64, 128, 256, 512, 1024) if n >= shortest]
        for seed in range(30):
            rng = random.Random(seed)
            assert verdict(self.series(rng, lengths, 3.0), self.series(rng, lengths, 3.0)) == "steeper", seed

    def test_they_are_no_points_of_a_law(self) -> None:
        for seed in range(30):
            growth = grown(self.series(random.Random(seed), [64, 128, 256, 512, 1024], 0.0))
            assert growth.refusal == "4 sizes are too few for a law: it takes 5"

    def test_they_are_not_what_head_rises_from(self) -> None:
        """Code is unchanged, but base has a reading of 50 pages where head has 33."""
        base = {64: 50 * PAGE} | {n: (n - 11) * PAGE for n in LENGTHS}
        growth = grown(of_memory(base.__getitem__, (base | {64: 33 * PAGE}).__getitem__, [64, *LENGTHS]))
        assert growth.rise == growth.fall == 0.0

    def test_what_they_seem_to_save_speaks_against_no_term(self) -> None:
        def head(n: int) -> float:
            return linear(n) + 0.5 * n * n - (60 * KIB if n == 32 else 0)

        growth = grown(of_memory(lambda n: linear(n) + 40 * KIB * (n == 32), head, [32, *LENGTHS]))
        assert growth.adds is not None


def test_a_term_that_is_not_surely_steeper_is_ambiguous_however_often_it_comes_back() -> None:
    series = of_memory(linear, lambda n: linear(n) + 0.05 * n * n)
    growth = grown(series)
    assert growth.adds is not None
    assert not growth.adds.sure
    assert verdict(series, series) == "ambiguous"
    back = of_memory(lambda n: linear(n) + 0.05 * n * n, linear)
    assert grown(back).saves is not None
    assert verdict(back, back) == "same", "an improvement that is not sure is none"


def test_a_lower_floor_with_a_larger_factor_is_no_term() -> None:
    """The difference rises from a negative value, which looks steeper than any law."""

    def head(n: int) -> float:
        return 1 * MIB + 2048.0 * n

    growth = grown(of_memory(lambda n: 3 * MIB + 1024.0 * n, head, (256, 512, 1024, 2048, 4096, 8192)))
    assert growth.adds is None
    assert not growth.perhaps_steeper(TOLERATED)


def test_what_is_seen_at_the_longest_length_alone_is_a_step() -> None:
    more = {4096: 4 * MIB, 2048: 10 * KIB}
    assert grown(of_memory(linear, lambda n: linear(n) + more.get(n, 0))).adds is None


@pytest.mark.parametrize(("longest", "found"), [(4_000, False), (8_000, True)])
def test_a_term_of_a_few_microseconds_does_not_count(longest: float, found: bool) -> None:
    def head(n: int) -> float:
        return 10.0 * n + longest * (n / 4096) ** 2

    assert (grown(of_time(lambda n: 10.0 * n, head), "time").adds is not None) is found


@pytest.mark.parametrize(("longest", "found"), [(300 * KIB, False), (400 * KIB, True)])
def test_a_term_of_less_than_twice_the_resolution_does_not_count(longest: float, found: bool) -> None:
    def flat(n: int) -> float:
        return float(2 * MIB * (n / 128) ** 0.3)

    growth = grown(of_memory(flat, lambda n: flat(n) + longest * (n / 4096) ** 1.5))
    assert (growth.adds is not None) is found


def test_noise_of_rounds_is_part_of_a_terms_interval() -> None:
    def head(n: int) -> float:
        return 10_000.0 * n + 0.3 * n * n  # 12 % at the longest length

    quiet, noisy = (grown(of_time(lambda n: 10_000.0 * n, head, noise=noise), "time") for noise in (0.001, 0.05))
    assert quiet.adds is not None
    assert quiet.adds.sure
    assert noisy.adds is None or not noisy.adds.sure


def test_two_rounds_of_time_tell_no_term() -> None:
    assert grown(of_time(lambda n: 1e4 * n, lambda n: 1e4 * n + n * n, rounds=2), "time").adds is None


def test_a_bent_law_beside_an_even_ratio_is_not_steeper() -> None:
    """The fit of one side finds a cliff, and that of the other does not."""
    base, head = (fit_scaling(LENGTHS, [[n**k] for n in LENGTHS]) for k in (1.0, 1.3))
    assert isinstance(head, Scaling)
    even = ScalingChange(quantity="time", base=base, head=head, adds=None, saves=None, rise=0.10, fall=0.10)
    rising = ScalingChange(quantity="time", base=base, head=head, adds=None, saves=None, rise=0.11, fall=0.0)
    assert not even.perhaps_steeper(TOLERATED)
    assert not even.steeper(TOLERATED)
    assert rising.steeper(TOLERATED)
    back = ScalingChange(quantity="time", base=head, head=base, adds=None, saves=None, rise=0.0, fall=0.10)
    assert not back.flatter(TOLERATED)


def test_the_rise_is_that_of_the_ratio_to_the_longest_length() -> None:
    ratios: Mapping[int, float] = dict(zip(LENGTHS, (1.3, 1.1, 1.2, 1.2, 1.2, 1.4), strict=True))
    growth = grown(of_memory(linear, lambda n: linear(n) * ratios[n]))
    assert growth.rise == pytest.approx(math.log(1.4 / 1.1), abs=1e-4)
    assert growth.fall == pytest.approx(math.log(1.3 / 1.4), abs=1e-4)


class TestSeries:
    @staticmethod
    def cell(queries: int, keys: int, name: str = "mine/plain", status: str = "ok", **case: int) -> Observed:
        made = make_case(seqlen_q=queries, seqlen_kv=keys, **case)
        both = side(peaks=[MIB] * 2)
        return Observed(
            key=(made.case_id, name, "cpu"), case=made, base=both, head=side(peaks=[MIB] * 2, status=status)
        )  # fmt: skip

    def test_decoders_of_other_numbers_of_queries_are_series_of_their_own(self) -> None:
        cells = [self.cell(q, keys) for q, all_keys in ((1, (128, 512)), (4, (256, 1024))) for keys in all_keys]
        assert sorted(series.lengths for series in series_of(cells)) == [[128, 512], [256, 1024]]

    def test_heads_implementations_and_failures_are_kept_apart(self) -> None:
        cells = [self.cell(n, n) for n in (128, 256)]
        cells += [
            self.cell(512, 512, heads_q=4),
            self.cell(1024, 1024, "mine/other"),
            self.cell(64, 64, status="wrong"),
        ]
        assert [series.lengths for series in series_of(cells)] == [[128, 256]]

    def test_two_cases_of_one_length_are_no_curve(self) -> None:
        cells = [self.cell(n, n, seed=seed) for n, seed in ((128, 0), (256, 0))]
        assert len(series_of(cells)) == 1
        windows = [
            Observed(key=(f"{n}-{i}", "mine/plain", "cpu"), case=make_case(seqlen_q=n), base=cell.base, head=cell.head)
            for cell in cells for n, i in ((128, 0), (128, 1), (256, 0))
        ]  # fmt: skip
        assert series_of(windows) == []


class TestFreshProcesses:
    """Fresh processes: which cells they measure, and suspicions that they do not confirm."""

    @staticmethod
    def first(base: Law, head: Law, lengths: Sequence[int] = LENGTHS) -> dict[CellKey, Observed]:
        return {cell.key: cell for cell in of_memory(base, head, lengths).cells}

    @staticmethod
    def asked(first: Mapping[CellKey, Observed], rules: Rules) -> list[int]:
        (keys,) = cells_to_confirm(screen_cells(first, rules, {}), first, rules, 0).values()
        return [first[key].case.seqlen_kv for key in keys]

    def test_a_cell_that_needs_more_memory_is_weighed_again(self) -> None:
        first = self.first(linear, lambda n: linear(n) + (MIB if n == 512 else 0))
        assert self.asked(first, Rules()) == [512]

    def test_all_lengths_of_a_series_that_grows_otherwise_are_weighed_again(self) -> None:
        first = self.first(linear, lambda n: linear(n) + 0.2 * n * n)
        assert self.asked(first, Rules(memory=0.5)) == list(LENGTHS)

    def test_unchanged_code_needs_none(self) -> None:
        assert self.asked(self.first(linear, linear), Rules()) == []

    def test_a_suspicion_that_they_do_not_look_at_stays_one(self) -> None:
        assert verdict(of_memory(linear, lambda n: linear(n) + n * n), None) == "ambiguous"

    def test_a_term_beside_no_law_that_does_not_come_back_is_gone_and_the_page_says_why_there_is_no_exponent(
        self,
    ) -> None:
        lengths = (32, 64, 128, 256, 512, 1024)  # four of them are points of a law
        first = self.first(linear, lambda n: linear(n) + 3.0 * n * n, lengths)
        fresh = self.first(linear, linear, lengths)
        (found, _), (none, notes) = (growth_verdicts(first, again, Rules()) for again in (first, fresh))
        assert [one.verdict for one in found] == ["steeper"]
        assert none == []
        assert "memory of mine/plain, forward b1 h8 d64 float32: 4 sizes are too few for a law" in notes[0]

    def test_two_laws_that_they_cannot_see_are_unknown(self) -> None:
        first = of_memory(linear, lambda n: 16.0 * n * n + linear(n))
        assert isinstance(grown(first).base, Scaling)
        blind = of_memory(lambda n: 100.0 * KIB, lambda n: 100.0 * KIB)
        assert isinstance(grown(blind).base, Refusal)
        assert verdict(first, first) == "steeper"
        assert verdict(first, blind) == "ambiguous"
