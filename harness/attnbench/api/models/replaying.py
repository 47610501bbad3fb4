"""``attnbench.replay``: a captured model's attention on other implementations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnbench.api.fleet.running import resume_on
from attnbench.api.measuring import begin
from attnbench.api.measuring import resume as go_on
from attnbench.api.progress import Log
from attnbench.api.results import Answer
from attnbench.api.selection import CellSelection, words
from attnbench.errors import UsageError

if TYPE_CHECKING:
    import os

    from attnbench.api.measuring import Peaks
    from attnbench.api.selection import Plugins, Texts
    from attnbench.replaying.estimate import Replay
    from attnbench.replaying.folder import CaptureFolder


class ReplayedModel(Answer):
    """A captured model on each implementation: the time of its attention, and of the whole model."""

    def __init__(self, folder: CaptureFolder, path: Path, *, exit_code: int) -> None:
        from attnbench.replaying.estimate import replay_of
        from attnbench.replaying.folder import cells_by_call
        from attnbench.replaying.view import replay_view
        from attnbench.store.reader import read_run

        run = read_run(path)
        self.replay: Replay = replay_of(folder.capture, cells_by_call(folder, run))
        """The answer as data."""
        self.path = path
        """The run file."""
        self.exit_code = exit_code
        """The exit code, as in :func:`attnbench.run`."""
        super().__init__(lambda: replay_view(self.replay, str(folder.path), run.path), ok=exit_code == 0)

    def write_charts(self, path: str | os.PathLike[str]) -> None:
        """Draw the times into a ``.svg`` or ``.png``, and the peaks of memory into ``NAME-memory`` beside it.

        Raises:
            UsageError: when the file has another ending, its folder is not there, or the extra ``report`` is missing.
        """
        from attnbench.replaying.chart import write_charts

        write_charts(self.replay, Path(path))


def replay(
    capture: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
    *,
    include: Texts | None = None,
    exclude: Texts | None = None,
    plugin: Plugins | None = None,
    threads: int | None = None,
    replicates: int | None = None,
    seed: int | None = None,
    cache: Literal["warm", "cold"] = "warm",
    peaks: Peaks = "auto",
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    resume: str | os.PathLike[str] | None = None,
    verbose: bool = False,
    progress: bool | None = None,
) -> ReplayedModel:
    """Run a captured model's attention on all implementations, and tell what the model would take on each.

    Other arguments are those of :func:`attnbench.run`.

    Args:
        capture: the folder that ``attnbench capture`` wrote.
        run: a run of it that is there already; nothing is measured then.
        threads: threads of each worker on the CPU; default: as many as the model had.
        resume: a run of this capture to finish; takes everything else from its header.

    Returns:
        The answer: ``replay`` as data, ``frame`` with a row for each implementation, ``path`` of the run file.

    Raises:
        UsageError: when the folder holds no capture, the run is not one of it, or what is asked for cannot be done.
        RunInterrupted: after Ctrl-C; what was measured is stored.
    """
    from attnbench.replaying.folder import read_folder

    folder = read_folder(Path(capture))
    options = (include, exclude, plugin, threads, replicates, seed, out)
    if (run is not None or resume is not None) and any(one is not None for one in options):
        raise UsageError("a run that is there has decided what was run: leave the options out")
    if run is not None and resume is not None:
        raise UsageError("either the run that is there, or --resume, which finishes one")
    if run is not None:
        return ReplayedModel(folder, Path(run), exit_code=0)
    log = Log(progress, verbose=verbose)
    if resume is not None:
        finished = go_on(Path(resume), log, resume_on)
        return ReplayedModel(folder, finished.path, exit_code=finished.exit_code)
    asked = CellSelection.of(
        folder.scenario, include, exclude, None, plugin, folder.device, threads or folder.capture.threads, seed
    )
    request = asked.request(log, replicates=replicates, cache=cache)
    selected = dataclasses.replace(asked, scenario=str(folder.path), device=(), threads=threads).words()
    more = words(
        replay, replicates=replicates, cache=cache, peaks=peaks, out=out, force=force, verbose=verbose
    )  # fmt: skip
    command = ["replay", *selected, *more]
    finished = begin(request, log, command, peaks=peaks, out=None if out is None else Path(out), force=force)
    return ReplayedModel(folder, finished.path, exit_code=finished.exit_code)
