"""A user's request as data, which a run's header keeps and ``--resume`` reads."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from attnbench.errors import UsageError
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.registry.discover import find
from attnbench.runner.planning.plan import PlanError, Selectors, choose, matching, plan
from attnbench.runner.planning.shard import Shard, ShardError
from attnbench.runner.run import Setting
from attnbench.stages.stage import CellLimits
from attnbench.sweep.expand import expand, parse_overrides
from attnbench.sweep.hidden import hidden_pairs
from attnbench.sweep.model import Scenario, ScenarioError, StageName
from attnbench.sweep.nearest import did_you_mean
from attnbench.transport.host import LOCAL_HOST
from attnbench.untrusted.printable import shown
from attnbench.worker.timing import SamplingLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.registry.found import Found
    from attnbench.runner.planning.plan import Cell
    from attnbench.transport.host import Host


BOUNDS = {"threads": (1, 4096), "ranks": (1, 1024), "replicates": (1, 10_000), "seed": (0, 2**63 - 1)}
"""The least and the greatest allowed value of each number."""


def _within(name: str) -> Any:
    least, most = BOUNDS[name]
    return Field(ge=least, le=most)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A scenario with the command line's options applied."""

    scenario: Scenario
    overrides: dict[str, list[str]]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    plugins: tuple[str, ...]
    devices: tuple[Annotated[str, Field(pattern="^(cpu|cuda)$")], ...]
    threads: Annotated[int, _within("threads")]
    replicates: Annotated[int, _within("replicates")]
    seed: Annotated[int, _within("seed")]
    cache: Literal["warm", "cold"]
    stages: tuple[StageName, ...]
    cells: tuple[str, ...] = ()
    """Only these cells, each as ``case_id implementation device``; empty means all."""
    order_seed: int | None = None
    """Seed of the cells' order, if the order should vary while values do not; default ``seed``."""
    stop_at_first: bool = False
    """Whether the remaining cells of an implementation are skipped once it disagrees."""
    shard: tuple[int, int] | None = None
    """Number of a shard, and how many there are; ``None`` for the whole plan."""
    possible: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """For generated cases, by ``implementation device``: the number of possible pairs of levels, and an upper bound of
    that of triples.
    """
    on: str | None = None
    """The engine whose machines measure, ``ray`` or ``ray://HOST:PORT``; ``None`` is this machine."""
    all_cores: bool = False
    """Whether ``threads`` is one for each core, which is a different number on other machines."""
    ranks: tuple[Annotated[int, _within("ranks")], ...] = ()
    """The numbers of ranks on which implementations of several ranks run."""

    @property
    def sampling_s(self) -> float:
        """Seconds of sampling for each cell; 0 if nothing is timed."""
        return self.scenario.limits.sampling_s if "time" in self.stages else 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the request JSON-ready; :func:`request_from` reads it back."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**fields, "scenario": self.scenario.to_dict()}


class RequestError(UsageError):
    """A file does not hold a valid request; the message is one sentence."""


def request_from(stored: object) -> Request:
    """Read the request from a run's header.

    Raises:
        RequestError: it is not valid; the header may come from a stranger.
    """
    try:
        found = TypeAdapter(Request).validate_python(stored)
        for name, values in found.overrides.items():
            parse_overrides([f"{name}={value}" for value in values])
        if found.shard is not None:
            Shard(*found.shard)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestError(f"the request that it keeps is none: {place and f'{place}: '}{first['msg']}") from error
    except (ScenarioError, ShardError) as error:
        raise RequestError(f"the request that it keeps is none: {error}") from error
    return found


def found_of(request: Request, say: Callable[[str], object] = lambda sentence: None) -> list[Found]:
    """Return the implementations that the request chooses.

    ``say`` gets a sentence when a plug-in takes long to import, and when there is nothing that ``exclude`` leaves out.
    """
    everything = find(request.plugins, say=say)
    line = Selectors(include=request.include, exclude=request.exclude)
    chosen = choose(everything, request.scenario, line, request.ranks)
    names = [one.name for one in everything]
    for pattern in request.exclude:
        if not matching(pattern, names):
            say(f"-x {shown(pattern)} leaves nothing out: no implementation matches{did_you_mean(pattern, names)}")
    return chosen


def memory_limit(request: Request, host: Host) -> int:
    """Return the bytes that a worker may take for a cell: the scenario's limit, or 4/5 of the host's free memory."""
    if request.scenario.limits.memory_gib is not None:
        return int(request.scenario.limits.memory_gib * 2**30)
    return int(0.8 * host.available_bytes())


def plan_request(request: Request, found: Sequence[Found] | None = None, host: Host = LOCAL_HOST) -> list[Cell]:
    """Return all cells of the request.

    ``found`` are the implementations that it chooses, if another interpreter found them.

    Raises:
        PlanError: there is no cell, or no case can read its tensors from its files.
        ShardError: there are more shards than cases.
    """
    overrides = dict(request.overrides)
    if request.seed and "seed" not in overrides:
        overrides["seed"] = [str(request.seed)]
    cells = plan(
        request.scenario,
        overrides,
        found_of(request) if found is None else found,
        request.devices,
        replicates=request.replicates,
        seed=request.seed if request.order_seed is None else request.order_seed,
        memory_bytes=memory_limit(request, host),
        named=frozenset(request.cells),
        host=host,
    )
    if request.shard is not None:
        mine = Shard(*request.shard).cases({cell.case.case_id: cell.case for cell in cells})
        cells = [cell for cell in cells if cell.case.case_id in mine]
    if not cells and request.cells:
        raise PlanError("none of the cells that were asked for by name is in the scenario")
    if not cells:
        raise PlanError("the scenario's exclusions leave no cell to run")
    return cells


def warnings_of(request: Request) -> list[str]:
    """Return warnings about the requested cases; none about generated ones."""
    return [] if request.possible else hidden_pairs(expand(request.scenario, request.overrides))


def setting_of(request: Request, header: Mapping[str, Any], host: Host = LOCAL_HOST) -> Setting:
    """Return the runner's settings that do not belong to cells."""
    limits = request.scenario.limits
    return Setting(
        run_id=header["run_id"],
        threads=request.threads,
        environment=worker_environment(request.threads),
        limits=CellLimits(
            time_s=limits.time_s,
            memory_bytes=memory_limit(request, host),
            sampling=SamplingLimits(
                min_samples=limits.min_samples,
                max_samples=limits.max_samples,
                sampling_ns=int(limits.sampling_s * 1e9),
            ),
            cache="cold" if request.cache == "cold" else "warm",
            measures=frozenset(request.stages),
        ),
        peaks=header["peaks"],
        machine_key=header["machine_key"],
        host=host,
        stop_at_first=request.stop_at_first,
    )
