"""``attnbench run`` and ``attnbench check``: a scenario, or a single case, through the runner."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from attnbench.cli.config import read_config
from attnbench.cli.errors import UsageError
from attnbench.cli.output import Json  # noqa: TC001 - cyclopts reads it
from attnbench.cli.sensitivity import print_sensitivity
from attnbench.cli.streams import drop_stdout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnbench.runner.plan import Cell
    from attnbench.runner.request import Request
    from attnbench.runner.time_accounting import Shares
    from attnbench.store.writer import RunWriter

Strings = Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)]
Include = Annotated[list[str] | None, Parameter(name=["--implementation", "-i"], negative="")]
Exclude = Annotated[list[str] | None, Parameter(name=["--exclude", "-x"], negative="")]
Axes = Annotated[list[str] | None, Parameter(name=["--axis", "-a"], negative="")]
Plugins = Annotated[list[str] | None, Parameter(name=["--plugin", "-p"], negative="")]
Devices = Annotated[list[str] | None, Parameter(name=["--device", "-d"], negative="")]
Switch = Annotated[bool, Parameter(negative="")]


def run(
    scenario: str | None = None,
    *,
    include: Include = None,
    exclude: Exclude = None,
    axis: Axes = None,
    plugin: Plugins = None,
    device: Devices = None,
    threads: int | None = None,
    replicates: int | None = None,
    seed: int | None = None,
    cache: Literal["warm", "cold"] = "warm",
    peaks: Literal["auto", "quick", "full", "none"] = "auto",
    out: Path | None = None,
    force: Switch = False,
    resume: Path | None = None,
    request: Path | None = None,
    dry_run: Switch = False,
) -> int:
    """Sweep implementations over a scenario: check agreement, then measure time and memory.

    Prints the path of the run file. Without a scenario it runs the single case that the axes describe.

    Args:
        scenario: name of a bundled scenario, or path of a .toml file.
        include: implementations to run, a regular expression; repeatable.
        exclude: implementations to leave out, a regular expression; repeatable.
        axis: NAME=VALUE[,VALUE...] in place of the scenario's values, such as seqlen=128,1k,4k; repeatable.
        plugin: a file with implementations of your own, FILE.py or FILE.py:family/variant; repeatable.
        device: cpu or cuda; repeatable.
        threads: threads of each worker on the CPU; default: one for each core.
        replicates: fresh processes for each cell.
        seed: of the values and of the order of cells.
        cache: whether a call finds its inputs where the last one left them, or flushed out.
        peaks: how long to measure the machine's own limits; auto is quick before short runs.
        out: path of the run file; default results/runs/UTC-TIME-SCENARIO.jsonl.
        force: overwrite the run file.
        resume: a run file to finish; takes everything else from its header.
        request: a JSON file with what a run file's header keeps as its request, instead of a scenario and options;
            this is how attnbench gate asks for its runs.
        dry_run: list the cells with an estimate, and run nothing.
    """
    if resume is not None:
        return _resume(resume)
    if request is not None:
        return _begin(_stored_request(request), peaks, out, force=force, dry_run=dry_run)
    asked = build_request(
        scenario, include, exclude, axis, plugin, device, threads, replicates, seed, cache=cache, only_agreement=False
    )
    return _begin(asked, peaks, out, force=force, dry_run=dry_run)


def check(
    scenario: str | None = None,
    *,
    include: Include = None,
    exclude: Exclude = None,
    axis: Axes = None,
    plugin: Plugins = None,
    device: Devices = None,
    threads: int | None = None,
    seed: int | None = None,
    out: Path | None = None,
    force: Switch = False,
    dry_run: Switch = False,
    sensitivity: Switch = False,
    as_json: Json = False,
) -> int:
    """Check agreement only: as ``run``, without time and memory; the scenario defaults to edge-shapes.

    Args:
        scenario: name of a bundled scenario, or path of a .toml file; edge-shapes when no axis is given either.
        include: implementations to check, a regular expression; repeatable.
        exclude: implementations to leave out, a regular expression; repeatable.
        axis: NAME=VALUE[,VALUE...] in place of the scenario's values; repeatable.
        plugin: a file with implementations of your own, FILE.py or FILE.py:family/variant; repeatable.
        device: cpu or cuda; repeatable.
        threads: threads of each worker on the CPU.
        seed: of the values and of the order of cells.
        out: path of the run file.
        force: overwrite the run file.
        dry_run: list the cells, and run nothing.
        sensitivity: instead of implementations, try known-wrong ones: which does the scenario catch?
        as_json: with --sensitivity, print JSON.
    """
    name = scenario or (None if axis else "edge-shapes")
    request = build_request(
        name, include, exclude, axis, plugin, device, threads, None, seed, cache="warm", only_agreement=True
    )
    if sensitivity:
        return print_sensitivity(request, "json" if as_json else "terminal")
    if as_json:
        raise UsageError("--json is for --sensitivity; a check writes a run file, which attnbench show --json prints")
    return _begin(request, "none", out, force=force, dry_run=dry_run)


def build_request(
    scenario: str | None,
    include: Sequence[str] | None,
    exclude: Sequence[str] | None,
    axis: Sequence[str] | None,
    plugin: Sequence[str] | None,
    device: Sequence[str] | None,
    threads: int | None,
    replicates: int | None,
    seed: int | None,
    *,
    cache: str,
    only_agreement: bool,
) -> Request:
    """What was asked for, with the configuration's defaults filled in.

    Raises:
        UsageError: when a number or a device is not one that can be asked for.
    """
    from attnbench.machine.pinning import default_threads
    from attnbench.runner.request import Request
    from attnbench.sweep.expand import adhoc, parse_overrides
    from attnbench.sweep.load import load_scenario

    config = read_config()
    loaded = load_scenario(scenario) if scenario else adhoc()
    given = {
        "threads": _first(threads, config.threads, default_threads()),
        "replicates": _first(replicates, config.replicates, 1),
    }
    for name, value in given.items():
        if value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    named = tuple(device or config.devices)
    for one in named:
        if one not in ("cpu", "cuda"):
            raise UsageError(f"unknown device {one!r}: there are cpu and cuda")
    devices = named or _present(loaded.devices)
    return Request(
        scenario=loaded,
        overrides=parse_overrides(list(axis or [])),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        plugins=(*config.plugins, *(plugin or ())),
        devices=devices,
        seed=_first(seed, config.seed, 0),
        cache=cache,
        stages=("agreement",) if only_agreement else tuple(loaded.stages),
        threads=given["threads"],
        replicates=given["replicates"],
    )


def _stored_request(path: Path) -> Request:
    """A request from a file of its own."""
    from attnbench.runner.request import request_from

    try:
        return request_from(json.loads(path.read_text()))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} is no request as a run file's header keeps it: {error}") from error


def _first(line: int | None, configured: int | None, default: int) -> int:
    """The command line's value, else the configuration's, else the default."""
    return next(value for value in (line, configured, default) if value is not None)


def _present(devices: Sequence[str]) -> tuple[str, ...]:
    """A scenario's devices, without those that this machine lacks (all of them where it lacks all)."""
    from attnbench.machine.hardware.devices import device_unavailable

    missing = {one: reason for one in devices if (reason := device_unavailable(one))}
    if len(missing) == len(devices):
        return tuple(devices)
    for one, reason in missing.items():
        sys.stderr.write(f"left out: {one}, which the scenario names; {reason}\n")
    return tuple(one for one in devices if one not in missing)


def _begin(request: Request, peaks: str, out: Path | None, *, force: bool, dry_run: bool) -> int:
    """Plan, open the run file, measure the machine, run."""
    from attnbench.runner.plan import estimate_s
    from attnbench.runner.request import plan_request
    from attnbench.store.writer import RunWriter

    cells = plan_request(request)
    estimate = sum(estimate_s(cell, request.sampling_s) for cell in cells)
    if dry_run:
        _print_plan(cells, request, estimate)
        return 0
    with _refusals(out):
        RunWriter.require_room(out or _default_path(request.scenario.name), force=force)
    from attnbench.machine.device_lock import devices_to_ourselves
    from attnbench.runner.header import measure_header
    from attnbench.runner.time_accounting import Shares

    if peaks == "auto":
        peaks = "quick" if estimate < 600 else "full"
    run_id = uuid.uuid4().hex[:12]
    with devices_to_ourselves(_used(cells), _say):
        began = time.monotonic()
        header = measure_header(request, cells, run_id, None if peaks == "none" else peaks == "quick", sys.argv[1:])
        with _refusals(out):
            writer = _create(out, request.scenario.name, header, force=force)
        if writer.unlocked:
            _say(writer.unlocked)
        looked_s = time.monotonic() - began
        return _execute(request, cells, header, writer, Shares(machine_s=looked_s, wall_s=looked_s))


def _used(cells: Sequence[Cell]) -> list[str]:
    """Devices on which something will run."""
    return sorted({cell.device for cell in cells if cell.preset_outcome is None})


def _say(sentence: str) -> None:
    sys.stderr.write(f"attnbench: {sentence}\n")


def _resume(path: Path) -> int:
    """Run the cells of a run file's plan which have no record yet."""
    from attnbench.runner.request import plan_request, request_from
    from attnbench.runner.resume import require_same
    from attnbench.runner.time_accounting import Shares
    from attnbench.store.reader import read_run
    from attnbench.store.writer import RunWriter

    try:
        writer = RunWriter.resume(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read and written: {error.strerror}") from error
    with contextlib.closing(writer):
        run_file = read_run(path)
        request = request_from(run_file.header.request)
        done = {(r["case_id"], r["implementation"], r["device"], r["replicate"]) for r in run_file.records}
        planned = plan_request(request)
        cells = [cell for cell in planned if cell.key not in done]
        for warning in [*run_file.warnings, *([writer.unlocked] if writer.unlocked else [])]:
            _say(warning)
        if not cells and run_file.is_complete:
            _say(f"{path} is complete: nothing to resume")
            sys.stdout.write(f"{path}\n")
            return 0
        require_same(path, run_file.header, planned, cells)
        from attnbench.machine.device_lock import devices_to_ourselves

        with devices_to_ourselves(_used(cells), _say):
            return _execute(request, cells, run_file.header.model_dump(mode="json"), writer, Shares())


def _execute(request: Request, cells: list[Cell], header: dict[str, object], writer: RunWriter, shares: Shares) -> int:
    """Run cells into an open run file, show how it goes, and say where the time went."""
    from attnbench.cli.progress import Progress
    from attnbench.runner.request import setting_of
    from attnbench.runner.run import execute

    with Progress(cells, request.sampling_s) as progress:
        outcome = execute(cells, setting_of(request, header), writer, progress, shares)
    writer.close()
    for line in progress.disagreements.summary():
        sys.stderr.write(f"{line}\n")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcome.counts.items()))
    sys.stderr.write(f"{counts or 'no cell was run'}\n{outcome.shares.sentence()}\n")
    if outcome.broken:
        sys.stderr.write(f"attnbench: {outcome.broken}; attnbench run --resume {writer.path}\n")
    if outcome.unsaved:
        sys.stderr.write(
            f"attnbench: {writer.problem}; {outcome.unsaved} lines are not stored; make room, then\n"
            f"attnbench run --resume {writer.path}\n"
        )
    if outcome.interrupted:
        sys.stderr.write(f"interrupted; to go on: attnbench run --resume {writer.path}\n")
    try:
        sys.stdout.write(f"{writer.path}\n")
        sys.stdout.flush()
    except OSError:
        if outcome.interrupted is None:
            raise
        drop_stdout()  # SIGHUP: the terminal is gone
    return outcome.exit_code


def _default_path(name: str) -> Path:
    """A name that no file has yet."""
    stem = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{name}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
    return next(path for name in names if not (path := Path("results/runs") / f"{name}.jsonl").exists())


def _create(out: Path | None, name: str, header: dict[str, object], *, force: bool) -> RunWriter:
    """The run file, with its header in it."""
    from attnbench.store.writer import RunFileBusyError, RunWriter

    while out is None:
        with contextlib.suppress(FileExistsError, RunFileBusyError):  # another run took the name just now
            return RunWriter.create(_default_path(name), header)
    return RunWriter.create(out, header, force=force)


@contextlib.contextmanager
def _refusals(out: Path | None) -> Iterator[None]:
    """Turn what the system says of a run file that is to be created into a sentence."""
    path = out or Path("results/runs")
    try:
        yield
    except FileExistsError:
        raise UsageError(f"{path} exists already: another --out, --resume {path}, or --force") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be created: {error.strerror}") from error


def _print_plan(cells: list[Cell], request: Request, estimate: float) -> None:
    from attnbench.runner.plan import estimate_s

    for cell in cells:
        what = cell.preset_outcome[0] if cell.preset_outcome else f"{estimate_s(cell, request.sampling_s):.1f} s"
        sys.stdout.write(f"{what:>12}  {cell.device:<4}  {cell.found.name:<28}  {cell.case.label()}\n")
    running = sum(1 for cell in cells if cell.preset_outcome is None)
    sys.stderr.write(f"{running} cells to run of {len(cells)}, about {estimate:.0f} s beside the start of workers\n")
