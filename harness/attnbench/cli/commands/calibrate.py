"""``attnbench calibrate``: what this machine's noise is, and how often the gate would cry wolf on it."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Annotated

from cyclopts import Parameter

from attnbench.cli.commands.gate import (
    Watching,
    asked_of_gate,
    at_least,
    calibration_path,
    default_folder,
    open_folder,
    share,
)
from attnbench.cli.commands.run import Axes, Devices, Exclude, Include, Plugins, Switch  # noqa: TC001
from attnbench.cli.errors import UsageError
from attnbench.cli.output import Format, Json, print_view


def calibrate(
    scenario: str = "gate-smoke",
    *,
    include: Include = None,
    exclude: Exclude = None,
    axis: Axes = None,
    plugin: Plugins = None,
    device: Devices = None,
    threads: int | None = None,
    rounds: int = 20,
    delta: str = "3%",
    seed: int = 0,
    runs: Path | None = None,
    out: Path | None = None,
    force: Switch = False,
    form: Annotated[Format, Parameter(name=["--format", "-f"])] = "terminal",
    as_json: Json = False,
) -> int:
    """Measure the same code on both sides, to learn each cell's noise floor and the gate's false-alarm rate here.

    The result is stored with the machine's key; attnbench gate finds it there and tolerates no less than the floors.

    Args:
        scenario: name of a bundled scenario, or path of a .toml file.
        include: implementations, a regular expression; repeatable.
        exclude: implementations to leave out, a regular expression; repeatable.
        axis: NAME=VALUE[,VALUE...] in place of the scenario's values; repeatable.
        plugin: a plug-in file; repeatable.
        device: cpu or cuda; repeatable.
        threads: threads of each worker on the CPU; default as the gate's.
        rounds: rounds of both sides; twenty tell a noise floor, fewer a rough one.
        delta: change of time that the gate will tolerate.
        seed: of orders and draws.
        runs: folder for the run files, kept; an interrupted calibration goes on there.
        out: where the result goes; default results/calibration/SCENARIO-MACHINE-THREADS.json.
        force: replace an earlier calibration.
        form: terminal, markdown, csv or json.
        as_json: short for --format json.
    """
    from attnbench.gate.calibration import calibrate as learn
    from attnbench.gate.gate import GatePlan
    from attnbench.gate.judge.statistics import Rules
    from attnbench.gate.measure.rounds import SIDES, run_rounds
    from attnbench.gate.measure.side import this_environment
    from attnbench.machine.environment import environment, machine_key
    from attnbench.views.gate.calibration import calibration_view

    at_least(rounds, 4)
    request = asked_of_gate(scenario, include, exclude, axis, plugin, device, threads, seed)
    path = out or calibration_path(request.scenario.name, machine_key(environment()), request.threads)
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: --force replaces it")
    rules = Rules(delta=share(delta))
    sides = dict.fromkeys(SIDES, this_environment())
    plan = GatePlan(sides=sides, request=request, rules=rules, seed=seed)
    folder = runs or default_folder(f"calibrate-{request.scenario.name}")
    open_folder(folder, {**plan.to_dict(), "rounds": rounds})
    with Watching() as observer:
        done = run_rounds("screen", rounds, sides, request, folder / "runs", observer, seed=seed)
    learned = learn(done, rules, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(learned.model_dump_json(indent=2) + "\n")
    if as_json or form == "json":
        sys.stdout.write(learned.model_dump_json(indent=2) + "\n")
    else:
        print_view(calibration_view(learned), form)
    sys.stderr.write(f"attnbench: stored in {path}; attnbench gate {scenario} uses it from now on\n")
    return 0
