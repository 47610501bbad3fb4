"""Plans cells from a scenario and the registry, with each outcome that is known before anything runs."""

from __future__ import annotations

import dataclasses
import random
import uuid
from typing import TYPE_CHECKING

from attnbench.cases.choices import DTYPE_BYTES
from attnbench.cases.cost import flops, minimum_bytes, tensor_elements
from attnbench.cases.inputs.operands import file_problems
from attnbench.errors import UsageError
from attnbench.registry.discover import UNKNOWN
from attnbench.store.repro import repro_command
from attnbench.sweep.expand import expand
from attnbench.sweep.nearest import did_you_mean
from attnbench.transport.host import LOCAL_HOST
from attnbench.units import count
from attnbench.untrusted.pattern import PatternError, found_in, pattern_mistake
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set

    from attnbench.cases.case import Case
    from attnbench.registry.found import Found
    from attnbench.sweep.model import Scenario
    from attnbench.transport.host import Host


MOST_CELLS = 200_000
"""The most cells of a plan; measuring them takes weeks."""


class PlanError(UsageError):
    """The request leaves nothing to run: a usage error, exit code 2."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A case, implementation and device in one replicate."""

    case: Case
    tags: tuple[str, ...]
    found: Found
    device: str
    replicate: int
    preset_outcome: tuple[str, str] | None
    """(status, reason) of a cell whose outcome is known without running it."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """The key that identifies the cell when a run is resumed."""
        return (self.case.case_id, self.found.name, self.device, self.replicate)

    @property
    def repro(self) -> str:
        """The shortest command that runs this cell again."""
        return repro_command(self.case, self.found.name, self.found.plugin, self.device)

    def record_fields(self) -> dict[str, object]:
        """Return the fields of its record that are known before it runs, and a new ``record_id``."""
        return {
            "record_id": uuid.uuid4().hex,
            "case_id": self.case.case_id,
            "implementation": self.found.name,
            "implementation_version": self.found.version,
            "source_hash": self.found.source_hash,
            "replicate": self.replicate,
            "repro": self.repro,
            "layout": self.found.declaration.layout if self.found.declaration else None,
            "device": self.device,
            "ranks": self.found.ranks,
            "cell_tags": self.tags,
            **self.case.to_dict(),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selectors:
    """Regular expressions that choose implementations: any of ``include`` (all if empty), none of ``exclude``.

    An expression that is an implementation's whole name matches only that one.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def choose(self, names: Sequence[str]) -> set[str]:
        """Return the chosen names."""
        included = {*names} if not self.include else set[str]().union(*(matching(text, names) for text in self.include))
        return included.difference(*(matching(text, names) for text in self.exclude))

    def mistakes(self, names: Sequence[str]) -> list[str]:
        """Return a sentence for each expression that is invalid or too costly to match against these names."""
        problems = []
        for pattern in (*self.include, *self.exclude):
            if (base := pattern.rpartition("@")[0]) in names:
                problems.append(f"{shown(pattern)} is a name of results: choose {base}, and with --ranks on how many")
            if reason := pattern_mistake(pattern):
                problems.append(f"{shown(pattern)} is not a regular expression: {reason}")
                continue
            try:
                for name in names:
                    found_in(pattern, name)
            except PatternError as error:
                problems.append(f"{shown(pattern)}: {error}")
        return problems


def matching(text: str, names: Sequence[str]) -> set[str]:
    """Return the names in which an expression is found, or only the name that equals it."""
    return {text} if text in names else {name for name in names if found_in(text, name)}


def choose(found: Sequence[Found], scenario: Scenario, line: Selectors, ranks: Sequence[int] = ()) -> list[Found]:
    """Return the implementations that both the scenario and the command line choose.

    Those that run on several ranks are returned once for each of ``ranks``.

    Raises:
        PlanError: an expression is malformed or takes too long, one of the command line's matches nothing, or a
            plug-in file cannot be imported.
    """
    names = [one.name for one in found]
    of_scenario = Selectors(include=tuple(scenario.implementations), exclude=tuple(scenario.exclude_implementations))
    problems = [*line.mistakes(names), *of_scenario.mistakes(names)]
    if problems:
        raise PlanError("; ".join(problems))
    broken = [one for one in found if _is_broken(one, line)]
    if broken:
        raise PlanError("; ".join(f"plug-in {one.origin.target}: {one.unavailable}" for one in broken))
    for pattern in line.include:
        if not matching(pattern, names):
            near = did_you_mean(pattern, names)
            said = f"no implementation matches {shown(pattern)}{near} (there are {', '.join(names)})"
            raise PlanError("; ".join([said, *_not_imported(found)]))
    # A plug-in that is named on the command line is wanted, whatever the scenario's own list says.
    wanted = of_scenario.choose(names) | {one.name for one in found if one.origin.kind == "file"}
    chosen = [one for one in found if one.name in line.choose(names) & wanted]
    if not chosen:
        raise PlanError("no implementation is left: the scenario and the command line choose none in common")
    placed = [placed for one in chosen for placed in _on_ranks(one, ranks)]
    if not placed:
        missed = ", ".join(one.name for one in chosen)
        raise PlanError(f"{missed}: runs on several ranks; attnbench run and check say on how many, with --ranks")
    return placed


def _on_ranks(one: Found, ranks: Sequence[int]) -> list[Found]:
    if one.declaration is None or not one.declaration.ranks:
        return [one]
    return [one.on(count) for count in dict.fromkeys(ranks)]


def _not_imported(found: Sequence[Found]) -> list[str]:
    """Describe installed plug-ins that could not be imported, and might define the missing name."""
    return [f"{one.origin}: {one.unavailable}" for one in found if one.declaration is None and one.unavailable]


def _is_broken(one: Found, line: Selectors) -> bool:
    """Whether this is a plug-in file that cannot be imported, and no expression refers to its placeholder entry.

    ``-x unknown`` excludes the entry, and ``-i unknown`` asks for its record. ``-i mine`` does neither: for ``mine.py``
    it matches the file's name, while the names that it would define are unknown.
    """
    if one.origin.kind != "file" or one.declaration is not None:
        return False
    stem = one.name.removeprefix(UNKNOWN)
    by_entry = any(found_in(text, one.name) and not found_in(text, stem) for text in line.include)
    return not by_entry and not any(found_in(text, one.name) for text in line.exclude)


def plan(
    scenario: Scenario,
    overrides: Mapping[str, list[str]],
    found: Sequence[Found],
    devices: Sequence[str],
    *,
    replicates: int,
    seed: int,
    memory_bytes: int,
    named: Set[str] = frozenset(),
    host: Host = LOCAL_HOST,
) -> list[Cell]:
    """Return all cells in the order in which they run: replicate by replicate, cases shuffled by the seed.

    The cells of a case are neighbours in shuffled order: they are measured at similar clocks and heat, an interrupted
    run has whole cases, and the oracle's answer serves all of them.

    If ``named`` (``case_id implementation device``) is not empty, only those cells are returned.

    Raises:
        PlanError: there are more cells than :data:`MOST_CELLS`, or no case fits its files of tensors.
    """
    kept = [
        (planned, one, device)
        for device in devices
        for planned in expand(scenario, overrides)
        for case_id in [planned.case.case_id]
        for one in found
        if not named or f"{case_id} {one.name} {device}" in named
        if scenario.excluded(planned.case, device=device, implementation=one.name) is None
    ]
    misfits = _misfits(planned.case for planned, _, _ in kept)
    if len(kept) * replicates > MOST_CELLS:
        raise PlanError(
            f"the plan has {len(kept) * replicates:,} cells, and {MOST_CELLS:,} are the most: "
            "fewer values on the axes, implementations (-i), devices or replicates"
        )
    cells = []
    for replicate in range(replicates):
        order = [
            Cell(
                case=planned.case,
                tags=planned.tags,
                found=one,
                device=device,
                replicate=replicate,
                preset_outcome=_preset_outcome(
                    planned.case, one, device, memory_bytes, host, misfits[planned.case.case_id]
                ),
            )
            for planned, one, device in kept
        ]
        cells += _shuffled(order, random.Random(f"{seed}/{replicate}"))
    return cells


def _shuffled(cells: list[Cell], generator: random.Random) -> list[Cell]:
    """Shuffle cases, and the cells within each."""
    of_cases: dict[str, list[Cell]] = {}
    for cell in cells:
        of_cases.setdefault(cell.case.case_id, []).append(cell)
    groups = list(of_cases.values())
    generator.shuffle(groups)
    for group in groups:
        generator.shuffle(group)
    return [cell for group in groups for cell in group]


def _misfits(cases: Iterable[Case]) -> dict[str, str]:
    """Return for each case the reason why it cannot read its tensors from its files, or an empty string.

    Raises:
        PlanError: no case can.
    """
    different = {case.case_id: case for case in cases}
    found = {case_id: next(iter(file_problems(case)), "") for case_id, case in different.items()}
    if found and all(found.values()):
        first, *others = dict.fromkeys(found.values())
        more = f"; and {count(len(others), 'more case')} that fit no file either" if others else ""
        raise PlanError(f"{first}{more}")
    return found


def _preset_outcome(
    case: Case, one: Found, device: str, memory_bytes: int, host: Host, misfit: str
) -> tuple[str, str] | None:
    if one.unavailable is not None:
        return ("unavailable", one.unavailable)
    if one.declaration is None:
        return ("unavailable", "it was not loaded")
    refusal = one.declaration.refuses(case, device)
    if refusal is not None:
        return ("unsupported", refusal)
    if one.ranks and device != "cpu":
        return (
            "unavailable",
            "ranks run only on the CPU so far: they have not been tried on a machine with several GPUs",
        )
    missing = host.device_unavailable(device)
    if missing is not None:
        return ("unavailable", missing)
    if misfit:
        return ("skipped", misfit)
    needed = least_memory(case)
    if needed > memory_bytes:
        return (
            "skipped",
            f"inputs and outputs alone take {needed / 2**30:.3g} GiB, the limit is {memory_bytes / 2**30:.3g} GiB",
        )
    return None


def least_memory(case: Case) -> int:
    """Return the bytes of inputs and outputs, which any implementation must hold."""
    elements = sum(tensor_elements(case).values()) * (2 if case.needs_gradients else 1)
    return elements * DTYPE_BYTES[case.dtype]


def estimate_s(cell: Cell, sampling_s: float) -> float:
    """Estimate a cell's seconds roughly, for the progress bar."""
    return 0.0 if cell.preset_outcome is not None else expected_s(cell.case, cell.device, sampling_s)


def expected_s(case: Case, device: str, sampling_s: float) -> float:
    """Estimate the seconds of a cell whose implementation is unknown.

    It assumes 60 GFLOP/s and 10 GB/s on a CPU, 50 TFLOP/s and 1 TB/s on a GPU, twelve calls in addition to the sampling
    time, and an overhead of 0.8 s if time is measured, else 0.15 s.
    """
    rate, bandwidth = (6e10, 1e10) if device == "cpu" else (5e13, 1e12)
    call = flops(case) / rate + minimum_bytes(case) / bandwidth
    return (0.8 if sampling_s else 0.15) + sampling_s + 12 * call
