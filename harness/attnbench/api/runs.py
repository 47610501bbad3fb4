"""``attnbench.run``, ``check``, ``plan`` and ``sensitivity``: ``attnbench run`` and ``check`` as functions."""

from __future__ import annotations

import dataclasses
import functools
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnbench.api.fleet.running import begin_on, resume_on, with_engine
from attnbench.api.measuring import begin
from attnbench.api.measuring import resume as go_on
from attnbench.api.progress import Log
from attnbench.api.results import Answer, FinishedRun
from attnbench.api.selection import CellSelection, words
from attnbench.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from attnbench.api.measuring import Peaks
    from attnbench.api.selection import Axes, Plugins, Texts
    from attnbench.runner.planning.request import Request

_ANY_MUTANT = "mutant/any"
EDGES = "edge-shapes"
_SEEDS = 1_000_000
"""The number of seeds that are chosen at random, small because people copy them."""


def run(
    scenario: str | os.PathLike[str] | None = None,
    *,
    include: Texts | None = None,
    exclude: Texts | None = None,
    axis: Axes | None = None,
    plugin: Plugins | None = None,
    device: Texts | None = None,
    threads: int | None = None,
    ranks: int | Sequence[int] | None = None,
    replicates: int | None = None,
    seed: int | None = None,
    cache: Literal["warm", "cold"] = "warm",
    peaks: Peaks = "auto",
    shard: str | None = None,
    on: str | None = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    resume: str | os.PathLike[str] | None = None,
    verbose: bool = False,
    progress: bool | None = None,
) -> FinishedRun:
    """Sweep implementations over a scenario: check agreement, then measure time and memory.

    Without a scenario it runs the single case that the axes describe.

    Args:
        scenario: name of a bundled scenario, or path of a .toml file.
        include: implementations to run: regular expressions.
        exclude: implementations to leave out: regular expressions.
        axis: values in place of the scenario's: ``{"seqlen": [128, 1024]}`` or ``["seqlen=128,1k"]``.
        plugin: files with implementations of your own: ``FILE.py``, ``FILE.py:family/variant``, or a function of such
            a file that is decorated with ``@attention``.
        device: ``"cpu"``, ``"cuda"``, or both.
        threads: threads of each worker on the CPU; default: one for each core.
        ranks: among how many processes an implementation of several ranks shares a call's tokens: one number, or
            several that are measured one by one; they share the threads. Default the scenario's.
        replicates: fresh processes for each cell.
        seed: of the values and of the order of cells.
        cache: whether a call finds its inputs where the last one left them, or flushed out.
        peaks: how long to measure the machine's own limits; auto is quick before short runs, and takes a CPU's of the
            last day.
        shard: ``"3/8"``: only the third of eight parts of the plan, for machines that share it; :func:`merge` joins
            their run files. A case is in one of them, with all its implementations.
        on: ``"ray"`` or ``"ray://HOST:PORT"``: the machines of a Ray cluster measure, each whole cases; default: this
            one.
        out: path of the run file; default ``results/runs/UTC-TIME-SCENARIO.jsonl``.
        force: replace a run file that is there already.
        resume: a run file to finish; takes everything else from its header.
        verbose: tell what the harness itself spent its time on, too.
        progress: whether stderr tells how it goes; default: where it is a terminal.

    Returns:
        The run: ``path``, ``ok``, ``exit_code``, ``frame`` with a row for each record; as a text, its table.

    Raises:
        UsageError: an argument is invalid; nothing has been written then.
        RunInterrupted: after Ctrl-C; what was measured is stored.
    """
    log = Log(progress, verbose=verbose)
    if resume is not None:
        if words(
            run,
            scenario=scenario,
            include=include,
            exclude=exclude,
            axis=axis,
            plugin=plugin,
            device=device,
            threads=threads,
            ranks=ranks,
            replicates=replicates,
            seed=seed,
            cache=cache,
            peaks=peaks,
            shard=shard,
            out=out,
            force=force,
        ):
            raise UsageError(
                "--resume finishes a run file, which says what it is of: leave the scenario and options out"
            )
        return go_on(Path(resume), log, functools.partial(resume_on, address=on))
    if on is not None and shard is not None:
        raise UsageError("--shard is for machines that do not know of each other; with --on they share the cases")
    asked = CellSelection.of(scenario, include, exclude, axis, plugin, device, threads, seed, ranks)
    request = _sharded(asked.request(log, replicates=replicates, cache=cache), shard)
    more = words(
        run, replicates=replicates, shard=shard, on=on, cache=cache, peaks=peaks, out=out, force=force, verbose=verbose
    )
    command = ["run", *asked.words(), *more]
    if on is None:
        return begin(request, log, command, peaks=peaks, out=_path(out), force=force)
    request = with_engine(request, on, devices_are_given=bool(asked.device))
    return begin_on(request, log, command, peaks=peaks, out=_path(out), force=force)


def check(
    scenario: str | os.PathLike[str] | None = None,
    *,
    include: Texts | None = None,
    exclude: Texts | None = None,
    axis: Axes | None = None,
    plugin: Plugins | None = None,
    device: Texts | None = None,
    threads: int | None = None,
    ranks: int | Sequence[int] | None = None,
    seed: int | None = None,
    thorough: bool = False,
    stop_at_first: bool = False,
    verbose: bool = False,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool | None = None,
) -> FinishedRun:
    """Check agreement only: as :func:`run`, without time and memory. The arguments are those of :func:`run`.

    Without a scenario and an axis, cases are generated for each implementation: they cover every pair of values that it
    takes, and some are random. They change each time, unless a seed is given. ``thorough`` covers every triple, in ten
    minutes instead of one. ``stop_at_first`` skips an implementation's remaining cells once it disagrees. ``verbose``
    also reports the number of impossible pairs, and how the harness itself spent its time.

    Raises:
        UsageError: an argument is invalid; nothing has been written then.
        RunInterrupted: after Ctrl-C; what was checked is stored.
    """
    log = Log(progress, verbose=verbose)
    asked = CellSelection.of(scenario, include, exclude, axis, plugin, device, threads, seed, ranks)
    asked, request = _to_check(asked, log, thorough=thorough)
    request = dataclasses.replace(request, stop_at_first=stop_at_first)
    more = words(thorough=thorough, stop_at_first=stop_at_first, verbose=verbose, out=out, force=force)
    command = ["check", *asked.words(), *more]
    return begin(request, log, command, peaks="none", out=_path(out), force=force)


def plan(
    scenario: str | os.PathLike[str] | None = None,
    *,
    include: Texts | None = None,
    exclude: Texts | None = None,
    axis: Axes | None = None,
    plugin: Plugins | None = None,
    device: Texts | None = None,
    threads: int | None = None,
    ranks: int | Sequence[int] | None = None,
    replicates: int | None = None,
    seed: int | None = None,
    shard: str | None = None,
    only_agreement: bool = False,
    thorough: bool = False,
    progress: bool | None = None,
) -> Answer:
    """List the cells of a run with an estimate, and run nothing: ``--dry-run``. The arguments are those of :func:`run`.

    With ``only_agreement`` they are the cells of :func:`check`, ``thorough`` or not.

    Raises:
        UsageError: an argument is invalid.
    """
    from attnbench.runner.planning.request import found_of, plan_request, warnings_of
    from attnbench.views.answer.plan import plan_view

    asked, log = CellSelection.of(scenario, include, exclude, axis, plugin, device, threads, seed, ranks), Log(progress)
    if only_agreement:
        asked, request = _to_check(asked, log, thorough=thorough)
    else:
        request = _sharded(asked.request(log, replicates=replicates), shard)
    cells = plan_request(request, found_of(request, log.says))
    for warning in warnings_of(request):
        log.says(warning)
    return Answer(lambda: plan_view(request, cells))


def sensitivity(
    scenario: str | os.PathLike[str] | None = None,
    *,
    axis: Axes | None = None,
    seed: int | None = None,
    progress: bool | None = None,
) -> Answer:
    """Try known-wrong implementations: which does the scenario catch? ``attnbench check --sensitivity``.

    Raises:
        UsageError: the scenario is malformed or has no case.
    """
    from attnbench.mutants.sensitivity import measure_sensitivity
    from attnbench.sweep.expand import expand
    from attnbench.views.sensitivity import sensitivity_view

    name = scenario or (None if axis else EDGES)
    log = Log(progress)
    request = CellSelection.of(name, axis=axis, seed=seed).request(log, only_agreement=True)
    overrides = dict(request.overrides)
    if request.seed and "seed" not in overrides:
        overrides["seed"] = [str(request.seed)]
    cases = {
        planned.case.case_id: planned.case
        for planned in expand(request.scenario, overrides)
        if request.scenario.excluded(planned.case, device="cpu", implementation=_ANY_MUTANT) is None
    }
    if not cases:
        raise UsageError("the scenario's exclusions leave no case")
    found = measure_sensitivity(list(cases.values()), lambda done: log.counts(done, len(cases), "cases tried"))
    return Answer(lambda: sensitivity_view(request.scenario.name, found))


def _to_check(asked: CellSelection, log: Log, *, thorough: bool) -> tuple[CellSelection, Request]:
    """Return the request of a check, and the selection that repeats it; generated cases get a seed."""
    if asked.scenario or asked.axis:
        if thorough:
            raise UsageError("--thorough is about cases that attnbench chooses: no scenario, and no axes")
        return asked, asked.request(log, only_agreement=True)
    from attnbench.api.config import read_config
    from attnbench.runner.planning.covering import with_covering_cases
    from attnbench.runner.planning.request import found_of

    if asked.seed is None and read_config().seed is None:
        asked = dataclasses.replace(asked, seed=secrets.randbelow(_SEEDS))
    request = asked.request(log, only_agreement=True)
    found = found_of(request, log.says)

    def told(done: int) -> None:
        log.counts(done, len(found) * len(request.devices), "implementations with cases")

    return asked, with_covering_cases(request, thorough=thorough, found=found, told=told)


def _sharded(request: Request, shard: str | None) -> Request:
    """Restrict the request to a shard of its plan, if one is given."""
    from attnbench.runner.planning.shard import Shard

    return request if shard is None else dataclasses.replace(request, shard=Shard.parsed(shard).as_pair)


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)
