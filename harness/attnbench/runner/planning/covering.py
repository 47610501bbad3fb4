"""Cases for a check that names none: each implementation gets cases that cover its declaration."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from typing import TYPE_CHECKING, TypeAlias

from attnbench.cases.case import Case, make_case
from attnbench.covering.array import Space, cover
from attnbench.covering.tuples import codes_of, tuples
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.runner.planning.request import found_of
from attnbench.runner.workers import Workers
from attnbench.stages.prepare import AskRefusals
from attnbench.store.repro import needed_fields
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from attnbench.sweep.model import Limits, Scenario
from attnbench.transport.executor import Executor, ExecutorError
from attnbench.transport.host import LOCAL_HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from attnbench.registry.found import Found
    from attnbench.registry.implementation import Declaration
    from attnbench.runner.planning.request import Request
    from attnbench.transport.host import Host

    _Drawn: TypeAlias = tuple[dict[Case, str], tuple[int, int]]
    """Cases with their tags, and the numbers of possible pairs and triples."""
    _Shared: TypeAlias = dict[tuple[Declaration, str], _Drawn]
    """The cases drawn for each declaration (without its name) and device."""

NAME = "covering"
_RANDOM = 30
_MOST = {2: 2_000, 3: 5_000}
"""The most cases for an implementation, by strength. Bundled implementations need about 340 for pairs."""
_EDGES = "edge-shapes"
_LARGE = ("beyond-65536-keys", "many-queries")
"""Shapes of edge-shapes that are larger than any random one."""
_DEADLINE_S = 300.0
_JUDGED = ("ok", "wrong")


def with_covering_cases(
    request: Request,
    *,
    thorough: bool,
    found: Sequence[Found] | None = None,
    host: Host = LOCAL_HOST,
    told: Callable[[int], object] = lambda done: None,
) -> Request:
    """Return the request with cases for each of its implementations, generated from its seed.

    An implementation that cannot run on the host gets a single case, whose record has the reason.

    Args:
        request: the request without cases.
        thorough: whether the cases cover every triple instead of every pair.
        found: the implementations that it chooses, if another interpreter found them.
        host: the machine on which it will run.
        told: called with the number of implementations and devices whose cases are done.

    Raises:
        UsageError: the request chooses no implementation.
    """
    chosen: dict[tuple[str, str], dict[Case, str]] = {}
    possible: dict[str, tuple[int, int]] = {}
    shared: _Shared = {}
    with contextlib.closing(Workers(request.threads, worker_environment(request.threads), host)) as workers:
        for one in found_of(request) if found is None else found:
            for device in request.devices:
                drawn = None
                if one.unavailable is None and host.device_unavailable(device) is None:
                    drawn = _drawn(request, one, device, workers, shared, strength=3 if thorough else 2)
                cases, counts = drawn or ({make_case(seqlen_q=64, seed=request.seed): "plain"}, None)
                chosen[one.name, device] = cases
                if counts is not None:
                    possible[f"{one.name} {device}"] = counts
                told(len(chosen))
    shapes: dict[str, dict[str, object]] = {}
    for (name, device), cases in chosen.items():
        shapes |= {f"{name} {device} {tag}": _fields(case) for case, tag in cases.items()}
    named = (f"{case.case_id} {name} {device}" for (name, device), cases in chosen.items() for case in cases)
    scenario = Scenario(
        name=NAME,
        description=f"Every {'triple' if thorough else 'pair'} of what each implementation takes; agreement only.",
        stages=("agreement",),
        limits=Limits(time_s=60),
        shapes=shapes,
    )
    return dataclasses.replace(request, scenario=scenario, cells=tuple(named), possible=possible)


def _drawn(
    request: Request, found: Found, device: str, workers: Workers, shared: _Shared, *, strength: int
) -> _Drawn | None:
    """Return cases that cover the implementation, or ``None`` if there are none.

    Implementations with equal declarations that refuse nothing else share one search, which takes seconds.
    """
    said = found.declaration
    if said is None or device not in said.devices:
        return None
    edges = load_scenario(_EDGES)

    own = [rule for rule in edges.exclude if rule.implementation and rule.concerns(device, found.name)]
    kind = (dataclasses.replace(said, name="", summary=""), device)
    is_shared = not own and _refuses_nothing(found, device, workers)
    if is_shared and kind in shared:
        return shared[kind]

    def is_included(case: Case) -> bool:
        return not any(rule.matches(case.to_dict(), device, found.name) for rule in own)

    takes = _taking(found, device, workers, is_included)
    space = Space(said=said, device=device, seed=request.seed, takes=takes)
    rng = random.Random(f"{request.seed}/{strength}")
    array = cover(space, strength, rng, _MOST[strength])
    cases = {case: tag for tag, case in _large(edges, request.seed, said, takes, device).items()}
    cases |= {case: f"random-{number}" for number, case in enumerate(random_cases(space, array.cases, rng), 1)}
    cases |= {case: f"cover-{number}" for number, case in enumerate(array.cases, 1)}
    codes = codes_of(cases)  # the large ones, and maybe a random one, have tuples that are in no other draw
    pairs, triples = (int((array.possible[n] | tuples(n).had_by(codes)).sum()) for n in (2, 3))
    if not array.cases:
        return None
    if is_shared:
        shared[kind] = (cases, (pairs, triples))
    return cases, (pairs, triples)


def random_cases(space: Space, cases: Sequence[Case], rng: random.Random) -> list[Case]:
    """Draw cases that are not among the given ones.

    Half of them have the sizes of a given one, to catch kernels that cache results by size.
    """
    chosen: dict[Case, None] = {}
    like = space.like(rng.choices(cases, k=8 * _RANDOM), rng) if cases else []
    for drawn, most in ((like, _RANDOM // 2), (space.draws([{}] * 8 * _RANDOM, rng), _RANDOM)):
        fresh = {case: None for case in drawn if case is not None and case not in cases and case not in chosen}
        chosen |= dict.fromkeys([*fresh][: most - len(chosen)])
    return [*chosen]


def _refuses_nothing(found: Found, device: str, workers: Workers) -> bool:
    """Whether the implementation refuses nothing beyond its declaration; ``False`` if its worker fails."""
    try:
        return workers.get(found, device).ask(AskRefusals(cases=(), device=device), _DEADLINE_S).never
    except ExecutorError:
        return False


def _large(
    edges: Scenario, seed: int, said: Declaration, takes: Callable[[Sequence[Case]], Sequence[bool]], device: str
) -> dict[str, Case]:
    """Return the last accepted case of each large shape, which has gradients if any accepted one has."""
    planned = [one for one in expand(edges, {"seed": [str(seed)]}) if {*one.tags} & {*_LARGE}]
    planned = [one for one in planned if said.refuses(one.case, device) is None]
    taken = takes([one.case for one in planned])
    return {one.tags[0]: one.case for one, kept in zip(planned, taken, strict=True) if kept}


def _taking(
    found: Found, device: str, workers: Workers, is_included: Callable[[Case], bool]
) -> Callable[[Sequence[Case]], Sequence[bool]]:
    """Return a function that asks the implementation's own hook in its worker.

    If the worker fails, all included cases count as accepted; the cells will show the failure.
    """
    takes_all = False

    def ask(cases: Sequence[Case]) -> Sequence[bool]:
        nonlocal takes_all
        included = [is_included(case) for case in cases]
        if takes_all:
            return included
        try:
            worker: Executor = workers.get(found, device)
            answer = worker.ask(AskRefusals(cases=tuple(cases), device=device), _DEADLINE_S)
        except ExecutorError:
            return included
        takes_all = answer.never
        return [one and not refused for one, refused in zip(included, answer.refused, strict=True)]

    return ask


def _fields(case: Case) -> dict[str, object]:
    """Return the fields by which a case differs from the default, without the seed, which is the request's."""
    fields = case.to_dict()
    return {name: fields[name] for name in needed_fields(case) if name != "seed"}


def coverage_lines(request: Request, records: Iterable[Mapping[str, object]], *, verbose: bool) -> list[str]:
    """Say how many of the possible pairs and triples the judged cells covered, a line for each implementation.

    Args:
        request: a request with covering cases.
        records: the records of its run.
        verbose: whether to add the number of impossible pairs.
    """
    tags: dict[str, list[tuple[Case, bool]]] = {key: [] for key in request.possible}
    for record in records:
        key = f"{record['implementation']} {record['device']}"
        if record["status"] in _JUDGED and key in tags:
            fields = {name: record[name] for name in Case.__dataclass_fields__}
            drawn = any("random" in str(tag) for tag in record["cell_tags"])  # type: ignore[attr-defined]  # a list
            tags[key].append((make_case(**fields), drawn))
    return [_line(request, key, judged, verbose=verbose) for key, judged in tags.items()]


def _line(request: Request, key: str, judged: Sequence[tuple[Case, bool]], *, verbose: bool) -> str:
    pairs, triples = request.possible[key]
    codes = codes_of(case for case, _ in judged)
    had_pairs, had_triples = (int(tuples(strength).had_by(codes).sum()) for strength in (2, 3))
    name, _, device = key.partition(" ")
    on = f" on {device}" if len(request.devices) > 1 else ""
    drawn = sum(drawn for _, drawn in judged)
    line = (
        f"{name}{on}: {had_pairs:,} of {pairs:,} pairs, {100 * had_triples // max(1, triples)} % of triples, "
        f"{drawn} random cases (seed {request.seed})"
    )
    if verbose:
        impossible = tuples(2).count - pairs
        line += f"; {impossible:,} more pairs are impossible: contradictory, not declared, refused or too large"
    return line
