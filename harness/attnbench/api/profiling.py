"""``attnbench.profile``: find out where the time of a call goes."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.api.gates import both_sides
from attnbench.api.measuring import begin
from attnbench.api.progress import Log
from attnbench.api.results import ProfiledCells
from attnbench.api.selection import CellSelection, words
from attnbench.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from attnbench.api.selection import Axes, Plugins, Texts
    from attnbench.gate.measure.rounds import SideName
    from attnbench.gate.measure.side import Side
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.runner.profile import ProfileSetting
    from attnbench.store.profile import CellProfile
    from attnbench.store.reader import RunFile
    from attnbench.transport.host import Host

MOST_CELLS = 24
RUN = "run.jsonl"
_SECONDS = (0.1, 600.0)


def profile(
    scenario: str | os.PathLike[str] | None = None,
    *,
    include: Texts | None = None,
    exclude: Texts | None = None,
    axis: Axes | None = None,
    plugin: Plugins | None = None,
    threads: int | None = None,
    seed: int | None = None,
    base: str | os.PathLike[str] | None = None,
    head: str | os.PathLike[str] | None = None,
    seconds: float = 3.0,
    samples: int = 6000,
    assembly: bool = False,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool | None = None,
) -> ProfiledCells:
    """Tell where the time of a call goes, phase by phase and line by line, and what bounds it.

    Each cell is run like :func:`run` does. If it agrees with the oracle, it is called again in a separate process and
    sampled. Other arguments are those of :func:`run`.

    Args:
        scenario: name of a bundled scenario, path of a .toml file, or a run file, whose cells are run again; default:
            the single case that the axes describe.
        base: compare the same cells of two sides, line by line: of this one (a revision, ``./DIR``, ``FILE.whl`` or
            ``FILE.py``, as of :func:`gate`), and of ``head``.
        head: the other side; default the current folder.
        seconds: how long calls are sampled.
        samples: how many samples there should be, of all threads together.
        assembly: whether the hottest instructions are listed too.
        out: folder of the page; default ``reports/runs/profile-UTC-TIME``.
        force: replace a profile that is there already.

    Returns:
        The profile: ``path`` of its page, ``ok``, ``exit_code``, ``frame`` with a row for each phase of each cell.

    Raises:
        UsageError: there are more than 24 cells, or an argument is invalid.
    """
    from attnbench.store.profile import PROFILE
    from attnbench.store.whole_folder import require_room

    log = Log(progress)
    if not _SECONDS[0] <= seconds <= _SECONDS[1] or not 1 <= samples <= 1_000_000:
        raise UsageError("a profile takes 0.1 to 600 seconds, and 1 to 1,000,000 samples")
    asked = CellSelection.of(scenario, include, exclude, axis, plugin, None, threads, seed)
    request = _request(asked, log)
    more = words(
        profile, base=base, head=head, seconds=seconds, samples=samples, assembly=assembly, out=out, force=force
    )  # fmt: skip
    command = ["profile", *asked.words(), *more]
    folder = Path(out) if out is not None else _default_folder()
    require_room(folder, "profile", PROFILE, force=force)
    if head is not None and base is None:
        raise UsageError("--head is compared with what? one of --base main, --base HEAD~1, --base old_kernel.py")
    sides = None if base is None else both_sides(str(base), "." if head is None else str(head), None, log)
    how = functools.partial(_setting, request.threads, seconds=seconds, samples=samples, assembly=assembly)
    if sides is None:
        return _write(functools.partial(_measure_here, request, log, command), how, command, folder, log)
    measure = functools.partial(_measure_sides, _of_both(request, asked), sides, log)
    return _write(measure, how, command, folder, log, {name: side.label for name, side in sides.items()})


def _request(asked: CellSelection, log: Log) -> Request:
    """Return the request of the run to make; for a run file, its cells that are ok."""
    if asked.scenario is None or not asked.scenario.endswith(".jsonl"):
        request = asked.request(log)
        return dataclasses.replace(request, stages=("agreement", "time", "memory"), replicates=1)
    from attnbench.runner.planning.request import request_from
    from attnbench.store.reader import read_run
    from attnbench.store.record import key_of
    from attnbench.sweep.expand import parse_overrides

    file = read_run(Path(asked.scenario))
    stored = request_from(file.header.request)
    records = [record for record in file.records if record["status"] == "ok"]
    if not records:
        raise UsageError(f"{asked.scenario} has no cell that is ok")
    return dataclasses.replace(
        stored,
        overrides={**stored.overrides, **parse_overrides(asked.axis)},
        include=asked.include or stored.include,
        exclude=(*stored.exclude, *asked.exclude),
        plugins=(*stored.plugins, *asked.plugin),
        threads=asked.threads or stored.threads,
        stages=("agreement", "time", "memory"),
        replicates=1,
        cells=tuple(dict.fromkeys(" ".join(key_of(record)) for record in records)),
    )


def _of_both(request: Request, asked: CellSelection) -> Request:
    """Return the request of both sides: plug-ins that a project's own configuration names are part of its side."""
    from attnbench.gate.gate import fixed_samples

    of_a_run = asked.scenario is not None and asked.scenario.endswith(".jsonl")
    return fixed_samples(dataclasses.replace(request, plugins=request.plugins if of_a_run else asked.plugin))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Measured:
    """Cells that were run, and are to be profiled."""

    cells: Sequence[Cell]
    run: RunFile
    host: Host
    side: SideName | None = None
    exit_code: int = 0


def _measure_here(request: Request, log: Log, command: Sequence[str], made: Path) -> list[_Measured]:
    """Run the cells like ``attnbench run`` does, and copy the run to the folder."""
    from attnbench.runner.planning.request import plan_request
    from attnbench.store.reader import read_run
    from attnbench.transport.host import LOCAL_HOST

    cells = [cell for cell in plan_request(request) if cell.preset_outcome is None]
    if not cells:
        raise UsageError("no cell can run here: attnbench run --dry-run with the same options tells why")
    if len(cells) > MOST_CELLS:
        raise UsageError(f"{len(cells)} cells are too many to profile, {MOST_CELLS} the most: choose with -i and -a")
    # The run is stored among the runs, so that it can be finished if it is interrupted. Floors need the machine's
    # present peaks.
    finished = begin(request, log, command, peaks="quick", out=None, force=False)
    shutil.copy(finished.path, made / RUN)
    return [_Measured(cells=cells, run=read_run(made / RUN), host=LOCAL_HOST, exit_code=finished.exit_code)]


def _measure_sides(request: Request, sides: dict[SideName, Side], log: Log, made: Path) -> list[_Measured]:
    """Run the cells of both sides in turns like the gate does, and copy the runs to the folder."""
    from attnbench.api.progress import GateProgress
    from attnbench.gate.measure.side_cells import measure_both

    rounds = made / "rounds"
    with GateProgress(log) as observer:
        both = measure_both(sides, request, rounds, observer, MOST_CELLS)
    measured = []
    for side in both:
        shutil.copy(side.run.path, made / f"run-{side.name}.jsonl")
        cells = [cell for cell in side.cells if cell.preset_outcome is None]
        code = 1 if any(record["status"] == "wrong" for record in side.run.records) else 0
        measured.append(_Measured(cells=cells, run=side.run, host=side.host, side=side.name, exit_code=code))
    shutil.rmtree(rounds)
    return measured


def _write(
    measure: Callable[[Path], list[_Measured]],
    setting_with: Callable[[Mapping[str, float]], ProfileSetting],
    command: Sequence[str],
    folder: Path,
    log: Log,
    sides: dict[SideName, str] | None = None,
) -> ProfiledCells:
    """Write the folder, all or nothing."""
    from attnbench.store.profile import Profile, write_profile
    from attnbench.store.whole_folder import whole_folder
    from attnbench.transport.host import LOCAL_HOST
    from attnbench.version import VERSION
    from attnbench.views.profile.page import write_profile_page

    with whole_folder(folder) as made:
        measured = measure(made)
        header = measured[-1].run.header
        peaks = dict(header.peaks) or {"cpu": dict(LOCAL_HOST.peaks("cpu", header.threads, quick=True))}
        setting = setting_with(dict(peaks.get("cpu", {}).get("tflops") or {}))
        found = [cell for one in measured for cell in _profiles(one, setting, log)]
        stored = Profile(
            created_utc=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
            attnbench=VERSION,
            command=shlex.join(["attnbench", *command]),
            sides=sides or {},
            environment=dict(header.environment),
            peaks=peaks,
            cells=tuple(found),
        )
        write_profile(stored, made)
        write_profile_page(made)
    worst = max(one.exit_code for one in measured)
    return ProfiledCells(folder / "index.html", exit_code=worst or _exit_code(found))


def _setting(
    threads: int, tflops: Mapping[str, float], *, seconds: float, samples: int, assembly: bool
) -> ProfileSetting:
    from attnbench.machine.ask_probe import ask_probe
    from attnbench.runner.profile import ProfileSetting

    return ProfileSetting(
        threads=threads,
        wall_ns=int(seconds * 1e9),
        samples=samples,
        assembly=assembly,
        tflops=tflops,
        exponentials_per_ns=ask_probe("exponentials", threads).get("per_ns"),  # absent if it cannot be measured
    )


def _exit_code(found: Sequence[CellProfile]) -> int:
    """Return 0 if there is a profile, 4 if cells broke while being sampled, 6 if this machine refuses to be sampled."""
    if any(cell.status != "ok" for cell in found):
        return 4
    return 0 if any(cell.phases or cell.kernels for cell in found) else 6


def _profiles(measured: _Measured, setting: ProfileSetting, log: Log) -> list[CellProfile]:
    """Profile the cells in the order of their cases."""
    from attnbench.machine.device_lock import devices_to_ourselves
    from attnbench.runner.profile import profile_cells
    from attnbench.store.record import key_of

    cells, side = measured.cells, measured.side
    records = {key_of(record): record for record in measured.run.records}
    wanted = [cell for cell in cells if (cell.case.case_id, cell.found.name, cell.device) in records]
    wanted.sort(key=lambda cell: [c.case.case_id for c in cells].index(cell.case.case_id))
    of = [records[cell.case.case_id, cell.found.name, cell.device] for cell in wanted]
    name = f", {side}" if side else ""

    def begins(cell: Cell) -> None:
        log.says(f"profiling {cell.found.name}{name}, {cell.case.label()}")

    with devices_to_ourselves(sorted({cell.device for cell in wanted}), log.says):
        found = list(profile_cells(wanted, of, setting, begins, measured.host))
    return [one.model_copy(update={"side": side}) for one in found]


def _default_folder() -> Path:
    """Return an unused folder name."""
    stem = Path("reports/runs") / f"profile-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    number, folder = 1, stem
    while folder.exists():
        number += 1
        folder = stem.with_name(f"{stem.name}-{number}")
    return folder
