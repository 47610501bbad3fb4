"""``attnbench.api.gate`` and ``calibrate``: the commands of these names as functions."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from attnbench.api.config import read_config
from attnbench.api.progress import GateProgress, Log
from attnbench.api.results import CalibratedMachine, Gate
from attnbench.api.selection import CellSelection, texts, words
from attnbench.errors import UsageError
from attnbench.gate.folders import calibration_path, default_folder, open_folder
from attnbench.gate.tolerances import at_least, share, tolerances

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from attnbench.api.selection import CellOptions, Texts
    from attnbench.gate.gate import GatePlan
    from attnbench.gate.judge.statistics import Rules
    from attnbench.gate.measure.rounds import SideName
    from attnbench.gate.measure.side import Side
    from attnbench.gate.verdict import GateResult
    from attnbench.runner.planning.request import Request

SMOKE = "gate-smoke"


def gate(
    scenario: str | os.PathLike[str] | None = None,
    *,
    base: str | os.PathLike[str] | None = None,
    head: str | os.PathLike[str] | None = None,
    baseline: str | os.PathLike[str] | None = None,
    delta: Texts | None = None,
    rounds: int = 4,
    confirm: int = 6,
    seed: int = 0,
    waivers: str | os.PathLike[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    measure_identical: bool = False,
    out: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **cells: Unpack[CellOptions],
) -> Gate:
    """Judge a change: measure both sides on this machine, in fresh processes and in turns, and compare pair by pair.

    A side is a git revision, a directory, a wheel, or a plug-in file.

    Args:
        scenario: name of a bundled scenario, or path of a .toml file; default gate-smoke, or the baseline's own.
        base: what is compared with: REV, ./DIR, FILE.whl or PLUGIN.py.
        head: what is judged; default the current directory, uncommitted changes included (with a baseline: this
            environment).
        baseline: instead of a base, a stored run: RUN.jsonl, or the name of one in results/baselines.
        delta: change that is tolerated: ``5%`` or ``time=5%``, ``memory=1%``, ``exponent=0.2``.
        rounds: rounds of the first stage, in which all cells are measured.
        confirm: rounds of the second stage, in which suspects are measured again.
        seed: of values and orders.
        waivers: a TOML file of regressions that are accepted for a while.
        calibration: what a calibration has learned of this machine; default the one in results/calibration.
        measure_identical: measure sides that are the same code, too.
        out: folder for run files and results; default ``results/gates/UTC-TIME-SCENARIO``.
        cache_dir: where sides are built and kept; default $ATTNBENCH_CACHE, or attnbench in the user's cache folder.
        progress: whether stderr tells how it goes; default: where it is a terminal.
        cells: which are judged: ``include``, ``exclude``, ``axis``, ``plugin``, ``device`` and ``threads``.

    Returns:
        The gate: ``ok``, ``exit_code``, ``result`` with its verdicts, ``frame`` with a row for each.

    Raises:
        UsageError: an argument is invalid, or a side cannot be measured.
        NotComparableError: the baseline is not comparable with runs on this machine.
    """
    from attnbench.gate.waivers import apply_waivers, read_waivers
    from attnbench.views.gate.files import write_results

    if (base is None) == (baseline is None):
        raise UsageError(
            "which base? one of --base main, --base HEAD~1, --base old.whl, --base old_kernel.py, "
            "or --baseline RUN.jsonl"
        )
    accepted = read_waivers(Path(waivers)) if waivers else []
    rules = rules_of(delta, rounds, confirm)
    log = Log(progress)
    asked = CellSelection.of(scenario, seed=seed, **cells)
    command = [
        "attnbench",
        "gate",
        *dataclasses.replace(asked, seed=seed or None).words(),
        *words(base=base, head=head, baseline=baseline, delta=texts(delta), waivers=waivers, calibration=calibration),
        *words(gate, rounds=rounds, confirm=confirm, measure_identical=measure_identical, out=out, cache_dir=cache_dir),
    ]
    cache = None if cache_dir is None else Path(cache_dir)
    folder = None if out is None else Path(out)
    if baseline is not None:
        if scenario or asked.include or asked.exclude or asked.axis or asked.device:
            raise UsageError(
                "a baseline says itself which cells it has: no scenario and no selection beside --baseline"
            )
        side = functools.partial(_side, None if head is None else str(head), cache, log)
        result, folder = _against_baseline(str(baseline), side, rules, asked, folder, log, command)
    else:
        request = asked_of_gate(dataclasses.replace(asked, scenario=asked.scenario or SMOKE), log)
        sides = both_sides(str(base), "." if head is None else str(head), cache, log)
        plan = plan_with_floors(sides, request, rules, seed, None if calibration is None else Path(calibration))
        result, folder = _in_pairs(plan, folder, log, command, measure_identical=measure_identical)
    result = apply_waivers(result, accepted, datetime.datetime.now(datetime.UTC).date())
    if folder is not None:
        write_results(result, folder)
        log.says(f"runs and results in every form: {folder}")
    return Gate(result, folder, log.messages)


def calibrate(
    scenario: str | os.PathLike[str] = SMOKE,
    *,
    rounds: int = 20,
    delta: str = "3%",
    seed: int = 0,
    runs: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool | None = None,
    **cells: Unpack[CellOptions],
) -> CalibratedMachine:
    """Measure the same code on both sides, to learn each cell's noise floor and the gate's false-alarm rate here.

    The result is stored with the machine's key; a gate finds it there and tolerates no less than the floors. Other
    arguments are those of :func:`gate`.

    Args:
        rounds: rounds of both sides; twenty tell a noise floor, fewer a rough one.
        delta: change of time that the gate will tolerate.
        seed: of orders and draws.
        runs: folder for the run files, kept; an interrupted calibration goes on there.
        out: where the result goes; default ``results/calibration/SCENARIO-MACHINE-THREADS.json``.
        force: replace an earlier calibration.

    Returns:
        The noise of each cell: ``path``, ``frame``.

    Raises:
        UsageError: an argument is invalid, or nothing could be timed.
    """
    from attnbench.gate.calibration import calibrate as learn
    from attnbench.gate.gate import GatePlan
    from attnbench.gate.judge.statistics import Rules
    from attnbench.gate.measure.rounds import SIDES, run_rounds
    from attnbench.gate.measure.side import this_environment
    from attnbench.machine.environment import environment, machine_key

    at_least(rounds, 4)
    log = Log(progress)
    asked = CellSelection.of(scenario, seed=seed, **cells)
    request = asked_of_gate(asked, log)
    name = request.scenario.name
    path = Path(out) if out else calibration_path(name, machine_key(environment()), request.threads)
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: --force replaces it")
    rules = Rules(delta=share(delta))
    sides = dict.fromkeys(SIDES, this_environment())
    plan = GatePlan(sides=sides, request=request, rules=rules, seed=seed)
    folder = Path(runs) if runs else default_folder(f"calibrate-{name}")
    open_folder(folder, {**plan.to_dict(), "rounds": rounds}, log.says)
    with GateProgress(log) as observer:
        done = run_rounds("screen", rounds, sides, request, folder / "runs", observer, seed=seed)
    learned = learn(done, rules, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(learned.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return CalibratedMachine(learned, path)


def rules_of(delta: Texts | None, rounds: int = 4, confirm: int = 6) -> Rules:
    """Return the gate's rules with these tolerances and rounds.

    Raises:
        UsageError: a tolerance is malformed, or there are too few rounds for a variance.
    """
    from attnbench.gate.judge.statistics import Rules

    given = tolerances(texts(delta))
    usual = Rules()
    return Rules(
        screen_rounds=at_least(rounds, 3),
        confirm_rounds=at_least(confirm, 3),
        delta=given.get("time", usual.delta),
        memory=given.get("memory", usual.memory),
        exponent=given.get("exponent", usual.exponent),
    )


def asked_of_gate(asked: CellSelection, log: Log) -> Request:
    """Return the request of both sides: a fixed number of samples, and one core left to the rest of the machine."""
    from attnbench.gate.gate import fixed_samples
    from attnbench.machine.hardware.pinning import default_threads

    # With a thread on every core, each parallel region would wait for whatever else runs on one of the cores.
    threads = asked.threads or read_config().threads or max(1, default_threads() - 1)
    request = dataclasses.replace(asked, threads=threads).request(log)
    # Plug-ins that a project's own configuration names are part of its side.
    return dataclasses.replace(fixed_samples(request), plugins=asked.plugin)


def plan_with_floors(
    sides: dict[SideName, Side], request: Request, rules: Rules, seed: int, calibration: Path | None
) -> GatePlan:  # fmt: skip
    """Return a plan with this machine's noise floors, if it was calibrated."""
    from attnbench.gate.calibration import read_calibration
    from attnbench.gate.gate import GatePlan
    from attnbench.machine.environment import environment, machine_key

    key = machine_key(environment())
    own = calibration_path(request.scenario.name, key, request.threads)
    chosen = calibration or (own if own.is_file() else None)
    floors = read_calibration(chosen, machine_key=key, threads=request.threads).floors if chosen else {}
    return GatePlan(
        sides=sides,
        request=request,
        rules=rules,
        seed=seed,
        floors=floors,
        calibration=str(chosen) if chosen else None,
    )


def _in_pairs(
    plan: GatePlan, out: Path | None, log: Log, command: Sequence[str], *, measure_identical: bool
) -> tuple[GateResult, Path | None]:
    """Measure both sides in turns, unless they are the same code; without a measurement only ``out`` is a folder."""
    from attnbench.gate.gate import identical_result, run_gate

    identical = plan.sides["base"].identity == plan.sides["head"].identity and not measure_identical
    if identical and out is None:
        return identical_result(plan, command), None
    folder = out or default_folder(plan.request.scenario.name)
    open_folder(folder, plan.to_dict(), log.says)
    if identical:
        return identical_result(plan, command), folder
    try:
        with GateProgress(log) as observer:
            return run_gate(plan, folder, observer, command), folder
    except KeyboardInterrupt:
        log.says(f"interrupted; the same command with --out {folder} goes on from its complete runs")
        raise


def _against_baseline(
    name: str,
    prepared: Callable[[], Side],
    rules: Rules,
    asked: CellSelection,
    out: Path | None,
    log: Log,
    command: Sequence[str],
) -> tuple[GateResult, Path]:
    """Measure head alone, and compare it with a stored run.

    Raises:
        NotComparableError: that run is not comparable with runs on this machine.
    """
    from attnbench.gate.baseline_gate import gate_stored, require_comparable, stored_rules
    from attnbench.gate.baselines import find_baseline
    from attnbench.gate.gate import GatePlan
    from attnbench.machine.environment import environment, machine_key
    from attnbench.runner.planning.request import request_from
    from attnbench.store.reader import read_run

    key = machine_key(environment())
    stored = read_run(find_baseline(name, key))
    require_comparable(stored, machine_key=key, threads=asked.threads or stored.header.threads)
    request = request_from(stored.header.request)
    side = prepared()
    # Plug-ins given now define the same names as the files that the baseline was measured with, and replace them.
    theirs = () if asked.plugin or side.kind == "plugin" else request.plugins
    request = dataclasses.replace(request, cells=(), plugins=(*theirs, *asked.plugin))
    plan = GatePlan(sides={"head": side}, request=request, rules=stored_rules(rules), seed=asked.seed or 0)
    folder = out or default_folder(request.scenario.name)
    open_folder(folder, {**plan.to_dict(), "baseline": stored.header.run_id}, log.says)
    with GateProgress(log) as observer:
        return gate_stored(stored, plan, folder, observer, command), folder


def both_sides(base: str, head: str, cache: Path | None, log: Log) -> dict[SideName, Side]:
    """Prepare both sides to be measured."""
    from attnbench.gate.measure.side import prepare
    from attnbench.gate.measure.source import require_committed, resolve
    from attnbench.machine.caches import own_cache

    here = Path.cwd()
    sources = {"base": resolve(base, here), "head": resolve(head, here)}
    require_committed(sources["head"])
    where = cache or own_cache()
    return {name: prepare(source, where, configured_plugins, log.says) for name, source in sources.items()}  # type: ignore[misc]  # the keys are literals


def _side(ref: str | None, cache: Path | None, log: Log) -> Side:
    """Prepare one side; without a reference it is this environment."""
    from attnbench.gate.measure.side import prepare, this_environment
    from attnbench.gate.measure.source import resolve
    from attnbench.machine.caches import own_cache

    if ref is None:
        return this_environment()
    return prepare(resolve(ref, Path.cwd()), cache or own_cache(), configured_plugins, log.says)


def configured_plugins(folder: Path) -> tuple[str, ...]:
    """Return the plug-in files that a project's own configuration names."""
    return read_config(folder).plugins
