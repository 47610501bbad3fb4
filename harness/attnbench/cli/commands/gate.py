"""``attnbench gate``: did a change make anything slower, bigger, wrong, or no longer supported?"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from attnbench.cli.commands.run import Axes, Devices, Exclude, Include, Plugins, Switch, build_request
from attnbench.cli.config import read_config
from attnbench.cli.errors import UsageError
from attnbench.cli.output import Format, Json, print_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.gate.gate import GatePlan
    from attnbench.gate.judge.statistics import Rules
    from attnbench.gate.measure.rounds import SideName
    from attnbench.gate.measure.side import Side
    from attnbench.gate.verdict import GateResult
    from attnbench.gate.waivers import Waiver
    from attnbench.runner.request import Request

EXIT_NOT_COMPARABLE = 6
Deltas = Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)]
_TOLERATED = ("time", "memory", "exponent")


def gate(
    scenario: str | None = None,
    *,
    base: str | None = None,
    head: str | None = None,
    baseline: str | None = None,
    include: Include = None,
    exclude: Exclude = None,
    axis: Axes = None,
    plugin: Plugins = None,
    device: Devices = None,
    threads: int | None = None,
    delta: Deltas = None,
    rounds: int = 4,
    confirm: int = 6,
    seed: int = 0,
    waivers: Path | None = None,
    calibration: Path | None = None,
    measure_identical: Switch = False,
    out: Path | None = None,
    cache_dir: Path | None = None,
    form: Annotated[Format, Parameter(name=["--format", "-f"])] = "terminal",
    as_json: Json = False,
) -> int:
    """Judge a change: measure both sides on this machine, in fresh processes and in turns, and compare pair by pair.

    A side is a git revision, a directory, a wheel, or a plug-in file. Exit codes: 0 no regression, 1 a regression,
    4 cells failed, 5 nothing measured or cells missing, 6 cannot tell.

    Args:
        scenario: name of a bundled scenario, or path of a .toml file; default gate-smoke, or the baseline's own.
        base: what is compared with: REV, ./DIR, FILE.whl or PLUGIN.py.
        head: what is judged; default the current directory, uncommitted changes included (with --baseline: this
            environment).
        baseline: instead of a base, a stored run: RUN.jsonl, or the name of one in results/baselines.
        include: implementations to judge, a regular expression; repeatable.
        exclude: implementations to leave out, a regular expression; repeatable.
        axis: NAME=VALUE[,VALUE...] in place of the scenario's values; repeatable.
        plugin: a plug-in file that both sides have; repeatable.
        device: cpu or cuda; repeatable.
        threads: threads of each worker on the CPU; default one less than there are cores, for the rest of the machine.
        delta: change that is tolerated: 5% or time=5% of time (default 3%), memory=1% (0.5%), exponent=0.2 (0.1) of
            the growth with the length; repeatable.
        rounds: rounds of the first stage, in which all cells are measured.
        confirm: rounds of the second stage, in which suspects are measured again.
        seed: of values and orders.
        waivers: a TOML file of regressions that are accepted for a while.
        calibration: what attnbench calibrate has learned of this machine; default the one in results/calibration.
        measure_identical: measure sides that are the same code, too.
        out: folder for run files and results; default results/gates/UTC-TIME-SCENARIO.
        cache_dir: where sides are built and kept; default $ATTNBENCH_CACHE, or attnbench in the user's cache folder.
        form: terminal, markdown, csv or json.
        as_json: short for --format json.
    """
    from attnbench.gate.judge.statistics import Rules
    from attnbench.gate.waivers import apply_waivers, read_waivers

    if (base is None) == (baseline is None):
        raise UsageError(
            "which base? one of --base main, --base HEAD~1, --base old.whl, --base old_kernel.py, "
            "or --baseline RUN.jsonl"
        )
    accepted = read_waivers(waivers) if waivers else []
    rules = Rules(screen_rounds=at_least(rounds, 3), confirm_rounds=at_least(confirm, 3))
    given = tolerances(delta)
    rules = dataclasses.replace(
        rules,
        delta=given.get("time", rules.delta),
        memory=given.get("memory", rules.memory),
        exponent=given.get("exponent", rules.exponent),
    )
    if baseline is not None:
        if scenario or include or exclude or axis or device:
            raise UsageError(
                "a baseline says itself which cells it has: no scenario and no selection beside --baseline"
            )
        return gate_baseline(
            baseline, head, rules, accepted, plugins=tuple(plugin or ()), threads=threads, seed=seed, out=out,
            cache_dir=cache_dir, form="json" if as_json else form,
        )  # fmt: skip
    assert base is not None
    request = asked_of_gate(scenario or "gate-smoke", include, exclude, axis, plugin, device, threads, seed)
    plan = _plan(base, head or ".", request, rules, seed, cache_dir, calibration)
    result, folder = _measured(plan, out, measure_identical=measure_identical)
    result = apply_waivers(result, accepted, datetime.datetime.now(datetime.UTC).date())
    return publish(result, folder, "json" if as_json else form)


def asked_of_gate(
    scenario: str, include: Include, exclude: Exclude, axis: Axes, plugin: Plugins, device: Devices,
    threads: int | None, seed: int,
) -> Request:  # fmt: skip
    """What is measured on both sides: a fixed number of samples, and one core left to the rest of the machine."""
    from attnbench.gate.gate import fixed_samples
    from attnbench.machine.pinning import default_threads

    # A team of threads on every core waits for whatever else runs on one of them, in each of its parallel regions.
    chosen = threads or read_config().threads or max(1, default_threads() - 1)
    request = build_request(
        scenario, include, exclude, axis, plugin, device, chosen, None, seed, cache="warm", only_agreement=False
    )
    # What a project's own configuration names is a part of its side.
    return dataclasses.replace(fixed_samples(request), plugins=tuple(plugin or ()))


def _plan(
    base: str, head: str, request: Request, rules: Rules, seed: int, cache_dir: Path | None, calibration: Path | None
) -> GatePlan:
    from attnbench.gate.calibration import read_calibration
    from attnbench.gate.gate import GatePlan
    from attnbench.machine.environment import environment, machine_key

    key = machine_key(environment())
    own = calibration_path(request.scenario.name, key, request.threads)
    chosen = calibration or (own if own.is_file() else None)
    floors = read_calibration(chosen, machine_key=key, threads=request.threads).floors if chosen else {}
    return GatePlan(
        sides=_sides(base, head, cache_dir),
        request=request,
        rules=rules,
        seed=seed,
        floors=floors,
        calibration=str(chosen) if chosen else None,
    )


def calibration_path(scenario: str, key: str, threads: int) -> Path:
    """Where the calibration of a machine for a scenario is kept."""
    return Path("results/calibration") / f"{scenario}-{key}-{threads}t.json"


def gate_baseline(
    name: str,
    head: str | None,
    rules: Rules,
    accepted: Sequence[Waiver],
    *,
    plugins: tuple[str, ...],
    threads: int | None,
    seed: int,
    out: Path | None,
    cache_dir: Path | None,
    form: Format,
) -> int:
    """The same against a stored run; exit code 6 where that says nothing about this machine."""
    from attnbench.gate.baseline_gate import NotComparableError, gate_stored, require_comparable, stored_rules
    from attnbench.gate.baselines import find_baseline
    from attnbench.gate.gate import GatePlan, result_of
    from attnbench.gate.measure.side import this_environment
    from attnbench.gate.waivers import apply_waivers
    from attnbench.machine.environment import environment, machine_key
    from attnbench.runner.request import request_from
    from attnbench.store.reader import read_run

    key = machine_key(environment())
    stored = read_run(find_baseline(name, key))
    try:
        require_comparable(stored, machine_key=key, threads=threads or stored.header.threads)
    except NotComparableError as error:
        _say(str(error))
        return EXIT_NOT_COMPARABLE
    request = request_from(stored.header.request)
    side = _side(head, cache_dir) if head else this_environment()
    # The files that the baseline was measured with define the same names as what is given now: this stands in for them.
    theirs = () if plugins or side.kind == "plugin" else request.plugins
    request = dataclasses.replace(request, cells=(), plugins=(*theirs, *plugins))
    plan = GatePlan(sides={"head": side}, request=request, rules=stored_rules(rules), seed=seed)
    folder = out or default_folder(request.scenario.name)
    open_folder(folder, {**plan.to_dict(), "baseline": stored.header.run_id})
    began = time.monotonic()
    command = ["attnbench", *sys.argv[1:]]
    with Watching() as observer:
        found = gate_stored(stored, plan, folder, observer, command)
    result = result_of(plan, command, **found, wall_s=round(time.monotonic() - began, 1))
    result = apply_waivers(result, accepted, datetime.datetime.now(datetime.UTC).date())
    return publish(result, folder, form)


def _sides(base: str, head: str, cache_dir: Path | None) -> dict[SideName, Side]:
    """Both sides, ready to be measured."""
    from attnbench.gate.measure.side import default_cache, prepare
    from attnbench.gate.measure.source import require_committed, resolve

    here = Path.cwd()
    sources = {"base": resolve(base, here), "head": resolve(head, here)}
    require_committed(sources["head"])

    def configured(folder: Path) -> tuple[str, ...]:
        return read_config(folder).plugins

    cache = cache_dir or default_cache()
    return {name: prepare(source, cache, configured, _say) for name, source in sources.items()}  # type: ignore[misc]  # the keys are literals


def _side(ref: str, cache_dir: Path | None) -> Side:
    """One side by itself."""
    from attnbench.gate.measure.side import default_cache, prepare
    from attnbench.gate.measure.source import resolve

    return prepare(
        resolve(ref, Path.cwd()), cache_dir or default_cache(), lambda folder: read_config(folder).plugins, _say
    )  # fmt: skip


def _measured(plan: GatePlan, out: Path | None, *, measure_identical: bool) -> tuple[GateResult, Path | None]:
    from attnbench.gate.gate import identical_result, run_gate

    command = ["attnbench", *sys.argv[1:]]
    if plan.sides["base"].identity == plan.sides["head"].identity and not measure_identical:
        return identical_result(plan, command), None
    folder = out or default_folder(plan.request.scenario.name)
    open_folder(folder, plan.to_dict())
    try:
        with Watching() as observer:
            return run_gate(plan, folder, observer, command), folder
    except KeyboardInterrupt:
        _say(f"interrupted; the same command with --out {folder} goes on from its complete runs")
        raise


def publish(result: GateResult, folder: Path | None, form: Format) -> int:
    """Write a result in all of its forms where its run files are, and print it."""
    from attnbench.views.gate.files import write_results
    from attnbench.views.gate.table import gate_view

    if folder is not None:
        write_results(result, folder)
        _say(f"runs and results in every form: {folder}")
    if form == "json":
        sys.stdout.write(result.model_dump_json(indent=2) + "\n")  # just what gate.json holds
    else:
        print_view(gate_view(result), form)
    return result.exit_code


def default_folder(scenario: str) -> Path:
    """A new folder in results/gates/."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("results/gates") / f"{stamp}-{scenario}"


def open_folder(folder: Path, plan: dict[str, object]) -> None:
    """Begin a folder, or go on with one of the same plan that was interrupted.

    Raises:
        UsageError: when it holds something else.
    """
    stored = folder / "plan.json"
    text = json.dumps(plan, indent=2)
    if stored.is_file() and stored.read_text() == text:
        _say(f"going on with {folder}: complete runs are kept")
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds something else already: another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stored.write_text(text)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error


def share(text: str) -> float:
    """``3%`` or ``0.03``.

    Raises:
        UsageError: when it is neither, or not between 0 and 100 %.
    """
    number, sign, _ = text.strip().partition("%")
    try:
        value = float(number) / (100 if sign else 1)
    except ValueError:
        raise UsageError(f"{text!r} is no share: write 3% or 0.03") from None
    if not 0 < value < 1:
        raise UsageError(f"{text!r} is no share between 0 and 100 %: write 3% or 0.03")
    return value


def tolerances(given: Sequence[str] | None) -> dict[str, float]:
    """What is tolerated, by metric: ``5%`` and ``time=5%``, ``memory=1%``, ``exponent=0.2``.

    Raises:
        UsageError: when one is malformed, of no metric, or given twice.
    """
    found: dict[str, float] = {}
    for text in given or ():
        name, is_named, value = text.rpartition("=")
        metric = name.strip() if is_named else "time"
        if metric not in _TOLERATED:
            raise UsageError(f"--delta {text}: {metric!r} is no metric that has one: {', '.join(_TOLERATED)}")
        if metric in found:
            raise UsageError(f"--delta {text}: what is tolerated of {metric} is given twice")
        found[metric] = _difference(value) if metric == "exponent" else share(value)
    return found


def _difference(text: str) -> float:
    """A difference of exponents."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{text!r} is no difference of exponents: write exponent=0.2")
    return value


def at_least(value: int, least: int) -> int:
    """A number of rounds.

    Raises:
        UsageError: when it is too small for a variance.
    """
    if value < least:
        raise UsageError(f"{value} rounds are too few: at least {least}")
    return value


class Watching:
    """One line on stderr for each run of the gate; on a terminal it stays in place."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            sys.stderr.write("\r\033[K")

    def begins(self, what: str) -> None:
        """Say what runs now."""
        line = f"{time.monotonic() - self._began:5.0f} s  {what}"
        sys.stderr.write(f"\r\033[K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()

    def ended(self) -> None:
        """The next line will say it."""


def _say(sentence: str) -> None:
    sys.stderr.write(f"attnbench: {sentence}\n")
