"""Speed-ups of a run's implementations over one of them, or of one run over another, with a named reference."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError
from attnbench.units import count, listing
from attnbench.views.cells import cells_of
from attnbench.views.estimates import FEW, Estimate, difference, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnbench.store.header import Header
    from attnbench.store.reader import RunFile
    from attnbench.views.cells import CellResult

VOLATILE = frozenset(
    {"load_average", "memory_available_bytes", "swap_used_bytes", "cpu_mhz", "command_line", "variables"}
)
"""Environment facts that differ between any two runs, or that the header holds elsewhere."""


class CompareError(UsageError):
    """There is nothing to compare; the message is one sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A case on both sides, each with a time."""

    reference: CellResult
    subject: CellResult

    @functools.cached_property
    def speedup(self) -> Estimate:
        """The reference's time over the subject's: above 1 the subject is faster."""
        assert self.reference.timing is not None
        assert self.subject.timing is not None
        return ratio(self.reference.timing, self.subject.timing)

    @property
    def difference(self) -> str:
        """Whether the subject is ``faster``, ``slower`` or ``within noise``."""
        assert self.reference.timing is not None
        assert self.subject.timing is not None
        return difference(self.reference.timing, self.subject.timing, self.speedup)

    @property
    def memory_ratio(self) -> float | None:
        """The subject's peak memory over the reference's."""
        if self.subject.metrics.memory_peak_bytes is None or not self.reference.metrics.memory_peak_bytes:
            return None
        return self.subject.metrics.memory_peak_bytes / self.reference.metrics.memory_peak_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingCell:
    """A cell without a speed-up, and the reason."""

    cell: CellResult
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
    """The geometric mean of an implementation's speed-ups, with the number of cells it is over."""

    implementation: str
    value: float | None
    pairs: int
    cells: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The speed-ups over one reference."""

    title: str
    reference: str
    """The baseline implementation, or the reference run."""
    pairs: tuple[Pair, ...]
    missing: tuple[MissingCell, ...]
    notes: tuple[str, ...]
    """Sentences that qualify the numbers."""

    @property
    def means(self) -> tuple[Mean, ...]:
        """A mean for each implementation, over the cells that both sides timed."""
        names = sorted(
            {one.subject.implementation for one in self.pairs} | {m.cell.implementation for m in self.missing}
        )
        return tuple(self._mean(name) for name in names)

    def _mean(self, implementation: str) -> Mean:
        speedups = [one.speedup.value for one in self.pairs if one.subject.implementation == implementation]
        left_out = sum(1 for one in self.missing if one.cell.implementation == implementation)
        return Mean(
            implementation=implementation,
            value=geometric_mean(speedups),
            pairs=len(speedups),
            cells=len(speedups) + left_out,
        )


def geometric_mean(ratios: Sequence[float]) -> float | None:
    """Return the geometric mean, or ``None`` for an empty sequence."""
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios)) if ratios else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """The implementation that speed-ups are relative to, and the reason for it in words that follow its name."""

    name: str
    why: str


def baseline_of(header: Header, cells: Sequence[CellResult], named: str | None = None) -> Baseline | None:
    """Choose the baseline: the named one, else the scenario's if the run has it, else the one timed most often.

    The last choice prefers implementations that are not plug-ins. The result is ``None`` if nothing was timed.

    Raises:
        CompareError: the run has no implementation of the name.
    """
    present = {cell.implementation for cell in cells}
    if named is not None:
        if named not in present:
            known = listing(sorted(present), most=30)
            raise CompareError(f"the run has no implementation {named!r}; there are: {known}")
        return Baseline(name=named, why="which was asked for")
    if header.baseline in present:
        return Baseline(name=header.baseline, why="the scenario's baseline")
    others = [cell for cell in cells if header.plugin_of(cell.implementation) is None]
    often = _most_timed(others) or _most_timed(cells)
    why = "which has a time in the most cases: the scenario names no baseline that was run"
    return None if often is None else Baseline(name=often, why=why)


def _most_timed(cells: Iterable[CellResult]) -> str | None:
    """Return the implementation with a time in the most cases; ties go to the first name."""
    timed = collections.Counter(cell.implementation for cell in cells if cell.timing is not None)
    return min(timed, key=lambda name: (-timed[name], name)) if timed else None


def compare_implementations(
    run: RunFile, baseline: str | None = None, *, cells: Sequence[CellResult] | None = None
) -> Comparison:
    """Compute the speed-ups of a run's implementations over one of them, by default the choice of :func:`baseline_of`.

    Raises:
        CompareError: there is no such implementation, or nothing was timed.
    """
    cells = cells_of(run) if cells is None else cells
    chosen = baseline_of(run.header, cells, baseline)
    if chosen is None:
        raise CompareError(f"{run.name}: nothing was timed, so there is no speed-up")
    reference_name = chosen.name
    references = {(cell.case_id, cell.device): cell for cell in cells if cell.implementation == reference_name}
    pairs, missing = [], []
    for cell in cells:
        if cell.implementation == reference_name:
            continue
        reference = references.get((cell.case_id, cell.device))
        why = _why_untimed(cell, "") or (
            _why_untimed(reference, f"the baseline {reference_name} ")
            if reference
            else f"the baseline {reference_name} has no record"
        )
        if why is None and reference is not None:
            pairs.append(Pair(reference=reference, subject=cell))
        else:
            missing.append(MissingCell(cell=cell, why=why or ""))
    return Comparison(
        title=f"{run.header.scenario_name}{run.machine and f' on {run.machine}'}: speed-up over {reference_name}",
        reference=reference_name,
        pairs=tuple(pairs),
        missing=tuple(missing),
        notes=(*run.warnings, *_unlike_means(pairs), *_methods(pairs)),
    )


def compare_runs(reference: RunFile, subject: RunFile) -> Comparison:
    """Compute the speed-ups of one run over another for their common cells (case, implementation, device)."""
    before = {cell.key: cell for cell in cells_of(reference)}
    after = {cell.key: cell for cell in cells_of(subject)}
    pairs, missing = [], []
    for key, cell in {**before, **after}.items():
        why = _why_absent(before.get(key), reference.name) or _why_absent(after.get(key), subject.name)
        if why is None:
            pairs.append(Pair(reference=before[key], subject=after[key]))
        else:
            missing.append(MissingCell(cell=cell, why=why))
    return Comparison(
        title=f"speed-up of {subject.name} over {reference.name}",
        reference=reference.name,
        pairs=tuple(pairs),
        missing=tuple(missing),
        notes=(
            *reference.warnings,
            *subject.warnings,
            *_unlike_machines(reference.header, subject.header),
            *_unlike_sources(reference.header, subject.header),
            *_methods(pairs),
        ),
    )


def _why_untimed(cell: CellResult, who: str) -> str | None:
    """Say why a cell has no time, or return ``None`` if it has one."""
    if cell.timing is not None:
        return None
    return f"{who}is {cell.status}: {cell.reason}" if cell.status != "ok" else f"{who}was not timed"


def _why_absent(cell: CellResult | None, run: str) -> str | None:
    if cell is None:
        return f"no record in {run}"
    why = _why_untimed(cell, "")
    return None if why is None else f"in {run} it {why}"


def _unlike_means(pairs: Sequence[Pair]) -> list[str]:
    cases: dict[str, set[tuple[str, str]]] = {}
    for pair in pairs:
        cases.setdefault(pair.subject.implementation, set()).add((pair.subject.case_id, pair.subject.device))
    if len({frozenset(ids) for ids in cases.values()}) <= 1:
        return []
    return ["The geometric means stand over different cases for different implementations: do not rank by them."]


def _methods(pairs: Sequence[Pair]) -> list[str]:
    methods: dict[str, int] = {}
    for pair in pairs:
        name = pair.speedup.method
        methods[name] = methods.get(name, 0) + 1
    if not pairs:
        return []
    counted = [f"{name} ({count(n, 'cell')})" for name, n in methods.items()]
    said = [f"Intervals of speed-ups: {listing(counted)}."]
    if any(cell.timing and cell.timing.processes < FEW for pair in pairs for cell in (pair.reference, pair.subject)):
        said.append("No interval from fewer than three processes sees how processes differ; --replicates 3 does.")
    return said


def _unlike_machines(one: Header, other: Header) -> list[str]:
    notes = []
    if one.machine_key != other.machine_key:
        names = [f"{h.environment.get('cpu_model') or 'unknown CPU'} ({h.machine_key})" for h in (one, other)]
        notes.append(f"Not the same machine: {names[0]} and {names[1]}. Times differ for that reason alone.")
    if one.threads != other.threads:
        notes.append(f"Not the same number of threads: {one.threads} and {other.threads}.")
    differing = list(_differences(one.environment, other.environment))
    if differing:
        notes.append(f"The environments differ in {listing(differing, most=12)}.")
    return notes


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for name in sorted((one.keys() | other.keys()) - VOLATILE):
        before, after = one.get(name), other.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} ({_short(before)}, {_short(after)})"


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _unlike_sources(one: Header, other: Header) -> list[str]:
    changed = [
        name
        for name in sorted(one.implementations.keys() & other.implementations.keys())
        if one.implementations[name].get("source_hash") != other.implementations[name].get("source_hash")
    ]
    return [f"The source of {listing(changed, most=12)} differs between the runs."] if changed else []
