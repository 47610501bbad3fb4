"""Runs cells in this process: the worker's stages without a worker process, with the oracle in its own process."""

from __future__ import annotations

import contextlib
import dataclasses
from time import get_clock_info, perf_counter_ns
from typing import TYPE_CHECKING, Any

from attnbench.cases.cost import flops, minimum_bytes
from attnbench.machine.hardware.pinning import default_threads, worker_environment
from attnbench.registry.discover import find, implementations_of
from attnbench.registry.found import Found, Origin
from attnbench.registry.implementation import Implementation, attention
from attnbench.registry.importing import load_module
from attnbench.runner.derived_metrics import complete
from attnbench.runner.driver import drive, without_pauses
from attnbench.runner.oracle import Oracle
from attnbench.runner.planning.plan import Cell, Selectors, choose, plan
from attnbench.stages.agreement import JUDGED_TENSORS
from attnbench.stages.prepare import Prepare
from attnbench.stages.stage import CellLimits, CellRun
from attnbench.stages.table import STAGES
from attnbench.sweep.expand import adhoc, expand, parse_overrides
from attnbench.sweep.load import load_scenario
from attnbench.transport.executor import InProcess
from attnbench.worker.timing import calls_per_sample, warm_up
from attnbench.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence, Set

    from attnbench.stages.stage import Values

REFUSED = ("unsupported", "unavailable", "skipped")
_NO_LIMIT = 1 << 46
_TIME_S = 600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadyCall:
    """A call ready to be timed."""

    run: Callable[[], object]
    set_up: Callable[[], object] | None
    rounds: int
    iterations: int
    """Calls per sample, so that a sample takes at least a millisecond."""


def new_oracle() -> Oracle:
    """Return an oracle that starts in the background."""
    oracle = Oracle(default_threads(), worker_environment(default_threads()))
    oracle.start()
    return oracle


def cells_of(scenario: str, *, include: Sequence[str], axes: Sequence[str], plugins: Sequence[str]) -> list[Cell]:
    """Return the cells of a scenario sorted by case, without those that an implementation does not claim.

    Raises:
        ScenarioError, PlanError, RegistryError: if the scenario, a selection or a plug-in is not usable.
    """
    loaded = load_scenario(scenario)
    found = choose(find(plugins), loaded, Selectors(include=tuple(include)))
    cells = plan(
        loaded, parse_overrides(list(axes)), found, loaded.devices, replicates=1, seed=0, memory_bytes=_NO_LIMIT
    )  # fmt: skip
    claimed = [cell for cell in cells if cell.preset_outcome is None or cell.preset_outcome[0] != "unsupported"]
    return sorted(claimed, key=lambda cell: (cell.case.label(), cell.device, cell.found.name))


def run_here(oracle: Oracle, cell: Cell) -> Values:
    """Check agreement and measure memory of a cell; return the fields of its record, with the status."""
    values = _staged(oracle, _loaded(cell.found), cell, measures={"memory"})
    return complete(values, cell.case, cell.device, None)


def about(cell: Cell, fields: Mapping[str, Any]) -> dict[str, object]:
    """Return the ``extra_info`` of a benchmark."""
    ratios = [fields.get(f"{tensor}_error_ratio") for tensor in JUDGED_TENSORS]
    return {
        "implementation": cell.found.name,
        "case_id": cell.case.case_id,
        "device": cell.device,
        "error_ratio": max((ratio for ratio in ratios if ratio is not None), default=None),
        "memory_peak_bytes": fields.get("memory_peak_bytes"),
        "memory_resolution_bytes": fields.get("memory_resolution_bytes"),
        "flops": flops(cell.case),
        "bytes": minimum_bytes(cell.case),
        "backend": fields.get("backend"),
        "source_hash": cell.found.source_hash,
        "repro": cell.repro,
    }


@contextlib.contextmanager
def prepared(cell: Cell, rounds: int = 20) -> Iterator[ReadyCall]:
    """Yield a cell's call, warmed up; its resources are released at the end."""
    worker = Worker(_loaded(cell.found))
    try:
        Prepare(case=cell.case, device=cell.device).serve(worker)
        call = worker.session.prepared()
        warmed = warm_up(call.run, perf_counter_ns, set_up=call.set_up)
        resolution_ns = get_clock_info("perf_counter").resolution * 1e9
        set_up = call.set_up if call.needs_set_up else None
        iterations = 1 if call.needs_set_up else calls_per_sample(warmed.call_ns, resolution_ns)
        yield ReadyCall(run=call.run, set_up=set_up, rounds=rounds, iterations=iterations)
    finally:
        worker.end()


def check(
    oracle: Oracle,
    kernel: Implementation | Callable[..., Any],
    *,
    scenario: str | None = "edge-shapes",
    axes: Sequence[str] = (),
    device: str = "cpu",
    **declared: Any,
) -> list[str]:
    """Return a sentence on every case in which a kernel disagrees or fails; empty if there is none.

    Args:
        oracle: judges the answers.
        kernel: decorated, or a plain function that ``declared`` describes.
        scenario: the cases; ``None`` for the single one that ``axes`` describe.
        axes: ``NAME=VALUE``, replacing the scenario's values.
        device: ``cpu`` or ``cuda``.
        declared: arguments of the decorator :func:`attnbench.attention`.

    Raises:
        ValueError: if the kernel claims none of the cases, so that nothing would be checked.
    """
    implementation = kernel if isinstance(kernel, Implementation) else _declare(kernel, declared)
    said = implementation.declaration
    loaded = load_scenario(scenario) if scenario else adhoc()
    origin = Origin("module", getattr(kernel, "__module__", None) or "tests")
    found = Found(name=said.name, origin=origin, declaration=said)
    problems, checked = [], 0
    for planned in expand(loaded, parse_overrides(list(axes))):
        excluded = loaded.excluded(planned.case, device=device, implementation=said.name)
        if excluded is not None or said.refuses(planned.case, device) is not None:
            continue
        cell = Cell(case=planned.case, tags=planned.tags, found=found, device=device, replicate=0, preset_outcome=None)
        fields = _staged(oracle, implementation, cell, measures=set())
        if fields["status"] == "unsupported":
            continue
        checked += 1
        if fields["status"] != "ok":
            problems.append(f"{fields['status']}: {said.name}, {planned.case.label()}: {fields['reason']}")
    if not checked:
        raise ValueError(f"{said.name} claims none of the cases of {loaded.name}, so nothing was checked")
    return problems


def _declare(kernel: Callable[..., Any], declared: Mapping[str, Any]) -> Implementation:
    name = getattr(kernel, "__name__", "kernel").lower().replace("_", "-").strip("-<>") or "kernel"
    return attention(f"checked/{name}", **declared)(kernel)


def _loaded(found: Found) -> Implementation:
    """Import the implementation into this process."""
    module = load_module(found.origin)
    return next(one for one in implementations_of(module) if one.declaration.name == found.name)


def _staged(oracle: Oracle, implementation: Implementation, cell: Cell, *, measures: Set[str]) -> Values:
    limits = CellLimits(time_s=_TIME_S, memory_bytes=None, measures=frozenset(measures))
    worker = InProcess(Worker(implementation).answer)
    stores_scores = implementation.declaration.stores_scores
    run = CellRun(worker, oracle, cell.case, cell.device, limits, stores_scores=stores_scores)
    return without_pauses(drive(run, STAGES))
