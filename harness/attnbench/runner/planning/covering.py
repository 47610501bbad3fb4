"""The cases of a check that names none: for each implementation those that cover what it takes."""

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
    """Cases with their tags, and the counts of pairs and triples that are possible."""
    _Shared: TypeAlias = dict[tuple[Declaration, str], _Drawn]
    """The cases drawn for each declaration (without its name) and device."""

NAME = "covering"
_RANDOM = 30
_MOST = {2: 2_000, 3: 5_000}
"""Cases for an implementation. Bundled ones need some 340 for pairs."""
_EDGES = "edge-shapes"
_LARGE = ("beyond-65536-keys", "many-queries")
"""Shapes of edge-shapes that are larger than any drawn here."""
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
    """The request with cases for each of its implementations, drawn by its seed.

    What cannot run on the host gets a single case, whose record says why.

    Args:
        request: what was asked for.
        thorough: whether the cases have every triple, not only every pair.
        found: the implementations that it chooses, where they are not those of this interpreter.
        host: where it is to run.
        told: hears of how many implementations, on each device, the cases are drawn.

    Raises:
        UsageError: when it names no implementation.
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
    """Cases that cover the implementation; ``None`` where there are none.

    Implementations that declare the same and refuse nothing beyond it share one search, which takes seconds.
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
    codes = codes_of(cases)  # the large ones, and by chance a random one, have tuples that no other draw has shown
    pairs, triples = (int((array.possible[n] | tuples(n).had_by(codes)).sum()) for n in (2, 3))
    if not array.cases:
        return None
    if is_shared:
        shared[kind] = (cases, (pairs, triples))
    return cases, (pairs, triples)


def random_cases(space: Space, cases: Sequence[Case], rng: random.Random) -> list[Case]:
    """Draw cases that are none of these; half have the sizes of one of them, for what a kernel keeps by its sizes."""
    chosen: dict[Case, None] = {}
    like = space.like(rng.choices(cases, k=8 * _RANDOM), rng) if cases else []
    for drawn, most in ((like, _RANDOM // 2), (space.draws([{}] * 8 * _RANDOM, rng), _RANDOM)):
        fresh = {case: None for case in drawn if case is not None and case not in cases and case not in chosen}
        chosen |= dict.fromkeys([*fresh][: most - len(chosen)])
    return [*chosen]


def _refuses_nothing(found: Found, device: str, workers: Workers) -> bool:
    """Whether its declaration is all that decides; not known where its worker fails."""
    try:
        return workers.get(found, device).ask(AskRefusals(cases=(), device=device), _DEADLINE_S).never
    except ExecutorError:
        return False


def _large(
    edges: Scenario, seed: int, said: Declaration, takes: Callable[[Sequence[Case]], Sequence[bool]], device: str
) -> dict[str, Case]:
    """For each large shape, the last case that is taken; it has gradients if any has."""
    planned = [one for one in expand(edges, {"seed": [str(seed)]}) if {*one.tags} & {*_LARGE}]
    planned = [one for one in planned if said.refuses(one.case, device) is None]
    taken = takes([one.case for one in planned])
    return {one.tags[0]: one.case for one, kept in zip(planned, taken, strict=True) if kept}


def _taking(
    found: Found, device: str, workers: Workers, is_included: Callable[[Case], bool]
) -> Callable[[Sequence[Case]], Sequence[bool]]:
    """Asks the implementation's own hook, in its worker; where that fails, the cells will tell why."""
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
    """The fields that tell the case from the default one. The seed is the request's."""
    fields = case.to_dict()
    return {name: fields[name] for name in needed_fields(case) if name != "seed"}


def coverage_lines(request: Request, records: Iterable[Mapping[str, object]], *, verbose: bool) -> list[str]:
    """How much of what is possible the judged cells had, a line for each implementation.

    Args:
        request: one with covering cases.
        records: of its run.
        verbose: whether to tell how many pairs are impossible.
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
