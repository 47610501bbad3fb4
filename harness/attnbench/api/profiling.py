"""``attnbench.profile``: where the time of calls goes."""

from __future__ import annotations

import dataclasses
import datetime
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.api.measuring import begin
from attnbench.api.progress import Log
from attnbench.api.results import ProfiledCells
from attnbench.api.selection import CellSelection, words
from attnbench.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from attnbench.api.selection import Axes, Plugins, Texts
    from attnbench.runner.planning.plan import Cell
    from attnbench.runner.planning.request import Request
    from attnbench.runner.profile import ProfileSetting
    from attnbench.store.profile import CellProfile
    from attnbench.store.reader import RunFile

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
    seconds: float = 3.0,
    samples: int = 6000,
    assembly: bool = False,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool | None = None,
) -> ProfiledCells:
    """Tell where the time of a call goes, phase by phase and line by line, and what bounds it.

    Each cell is run as :func:`run` does; where it agrees it is called again in a process of its own, and sampled.

    Args:
        scenario: name of a bundled scenario, path of a .toml file, or a run file, whose cells are run again; default:
            the single case that the axes describe.
        include: as of :func:`run`; so are ``exclude``, ``axis``, ``plugin``, ``threads`` and ``seed``.
        exclude: as said.
        axis: as said.
        plugin: as said.
        threads: as said.
        seed: as said.
        seconds: how long calls are sampled.
        samples: how many samples there should be, of all threads together.
        assembly: whether the hottest instructions are listed too.
        out: folder of the page; default ``reports/runs/profile-UTC-TIME``.
        force: replace a profile that is there already.
        progress: whether stderr tells how it goes; default: where it is a terminal.

    Returns:
        The profile: ``path`` of its page, ``ok``, ``exit_code``, ``frame`` with a row for each phase of each cell.

    Raises:
        UsageError: when there are more than 24 cells, or what is asked for cannot be done as asked.
    """
    log = Log(progress)
    if not _SECONDS[0] <= seconds <= _SECONDS[1] or not 1 <= samples <= 1_000_000:
        raise UsageError("a profile takes 0.1 to 600 seconds, and 1 to 1,000,000 samples")
    asked = CellSelection.of(scenario, include, exclude, axis, plugin, None, threads, seed)
    request = _request(asked, log)
    more = words(
        seconds=None if seconds == 3.0 else seconds,
        samples=None if samples == 6000 else samples,
        assembly=assembly, out=out, force=force,
    )  # fmt: skip
    command = ["profile", *asked.words(), *more]
    folder = Path(out) if out is not None else _default_folder()
    _require_room(folder, force=force)
    try:
        return _write(request, command, folder, log, seconds=seconds, samples=samples, assembly=assembly)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error


def _request(asked: CellSelection, log: Log) -> Request:
    """The run to make: of a run file, its cells that are ok."""
    if asked.scenario is None or not asked.scenario.endswith(".jsonl"):
        request = asked.request(log)
        return dataclasses.replace(request, stages=("agreement", "time", "memory"), replicates=1)
    from attnbench.runner.planning.request import request_from
    from attnbench.store.reader import read_run
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
        cells=tuple({f"{r['case_id']} {r['implementation']} {r['device']}": None for r in records}),
    )


def _write(
    request: Request, command: Sequence[str], folder: Path, log: Log, *, seconds: float, samples: int, assembly: bool
) -> ProfiledCells:
    """Write the folder whole, or not at all."""
    from attnbench.runner.planning.request import plan_request
    from attnbench.runner.profile import ProfileSetting
    from attnbench.store.reader import read_run
    from attnbench.store.whole_folder import whole_folder
    from attnbench.views.profile.page import write_profile_page

    cells = [cell for cell in plan_request(request) if cell.preset_outcome is None]
    if not cells:
        raise UsageError("no cell can run here: attnbench run --dry-run with the same options tells why")
    if len(cells) > MOST_CELLS:
        raise UsageError(f"{len(cells)} cells are too many to profile, {MOST_CELLS} the most: choose with -i and -a")
    with whole_folder(folder) as made:
        # Among the runs: whoever interrupts it can finish it. Floors are of peaks in the machine's present state.
        finished = begin(request, log, command, peaks="quick", out=None, force=False)
        shutil.copy(finished.path, made / RUN)
        file = read_run(made / RUN)
        setting = ProfileSetting(
            threads=request.threads,
            wall_ns=int(seconds * 1e9),
            samples=samples,
            assembly=assembly,
            tflops=_tflops(file),
            exponentials_per_ns=_exponentials(request.threads),
        )
        found = _profiles(cells, file, setting, log)
        _store(found, file, command, made)
        write_profile_page(made)
    return ProfiledCells(folder / "index.html", exit_code=finished.exit_code or _exit_code(found))


def _exit_code(found: Sequence[CellProfile]) -> int:
    """0 where there is a profile, 4 where cells broke while they were sampled, 6 where this machine refuses."""
    if any(cell.status != "ok" for cell in found):
        return 4
    return 0 if any(cell.phases for cell in found) else 6


def _profiles(cells: Sequence[Cell], file: RunFile, setting: ProfileSetting, log: Log) -> list[CellProfile]:
    """Profile the cells, in the order of their cases."""
    from attnbench.machine.device_lock import devices_to_ourselves
    from attnbench.runner.profile import profile_cells

    records = {(r["case_id"], r["implementation"], r["device"]): r for r in file.records}
    wanted = [cell for cell in cells if (cell.case.case_id, cell.found.name, cell.device) in records]
    wanted.sort(key=lambda cell: [c.case.case_id for c in cells].index(cell.case.case_id))
    of = [records[cell.case.case_id, cell.found.name, cell.device] for cell in wanted]
    with devices_to_ourselves(sorted({cell.device for cell in wanted}), log.says):
        return list(
            profile_cells(
                wanted, of, setting, lambda cell: log.says(f"profiling {cell.found.name}, {cell.case.label()}")
            )
        )


def _store(found: Sequence[CellProfile], file: RunFile, command: Sequence[str], folder: Path) -> None:
    from attnbench.store.profile import Profile, write_profile
    from attnbench.version import VERSION

    write_profile(
        Profile(
            created_utc=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
            attnbench=VERSION,
            command=shlex.join(["attnbench", *command]),
            environment=dict(file.header.environment),
            peaks=dict(file.header.peaks),
            cells=tuple(found),
        ),
        folder,
    )


def _tflops(file: RunFile) -> dict[str, float]:
    peaks = file.header.peaks.get("cpu") or {}
    return dict(peaks.get("tflops") or {})


def _exponentials(threads: int) -> float | None:
    """The machine's peak of exponentials; ``None`` where it could not be measured."""
    from attnbench.machine.ask_probe import ask_probe

    return ask_probe("exponentials", threads).get("per_ns")


def _default_folder() -> Path:
    """A name that no folder has yet."""
    stem = Path("reports/runs") / f"profile-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    number, folder = 1, stem
    while folder.exists():
        number += 1
        folder = stem.with_name(f"{stem.name}-{number}")
    return folder


def _require_room(folder: Path, *, force: bool) -> None:
    """Do nothing where a profile may be written.

    Raises:
        UsageError: where something is there already.
    """
    from attnbench.store.profile import PROFILE

    if folder.exists() and not (force and (folder / PROFILE).is_file()):
        hint = "--force replaces it" if (folder / PROFILE).is_file() else "and it is no profile"
        raise UsageError(f"{folder} exists already; {hint}")
