"""``attnbench history``: show each cell over commits, and find the commits that changed it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from attnbench.cli.commands.gating.gate import Deltas  # noqa: TC001 - cyclopts reads it
from attnbench.cli.options import Force, Format, GateCells, SomeScenario, Switch
from attnbench.cli.output import print_view

app = App(name="history", help="How each cell went over commits, and which commit changed it.")

Since = Annotated[str | None, Parameter(help="the revision to begin at; default the oldest that was measured.")]
File = Annotated[Path | None, Parameter(help="a history; default that of this machine.")]
Folder = Annotated[Path | None, Parameter(help="where histories are kept; default results/history.")]
Cache = Annotated[Path | None, Parameter(help="where revisions are built and kept; default as of attnbench gate.")]
Paths = Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)]
Minutes = Annotated[float, Parameter(help="begin nothing that would probably end later than that.")]
GateRounds = Annotated[int, Parameter(help="rounds of a gate's first stage.")]
GateConfirm = Annotated[int, Parameter(help="rounds of its second stage.")]
SeedOfGate = Annotated[int, Parameter(help="of values and orders.")]


@app.command
def add(
    scenario: SomeScenario = "gate-smoke",
    *,
    since: str | None = None,
    until: str = "HEAD",
    every: int = 1,
    path: Paths = None,
    anchor: str | None = None,
    minutes: Minutes = 60.0,
    cells: GateCells = GateCells(),
    rounds: int = 4,
    seed: SeedOfGate = 0,
    folder: Folder = None,
    cache_dir: Cache = None,
    form: Format = "terminal",
) -> int:
    """Measure revisions that the history lacks, each in the same rounds as the anchor revision.

    The most informative come first: the ends, then the middle of the widest gap, first of those across which something
    has changed. Each is stored at once: the same command goes on where it was stopped. Exit code 4 when a revision
    could not be measured.

    ```
    attnbench history add --since v0.1 --every 5 --minutes 60
    attnbench history add                       # what is new since then
    ```

    Args:
        since: the oldest revision; default the anchor that the history has.
        until: the newest one.
        every: one of so many commits, and both ends.
        path: only commits that touch this path, and both ends; repeatable.
        anchor: what all are measured with; default the one that the history has, else the oldest revision.
        rounds: rounds of each revision and its anchor.
    """
    from attnbench.api import history

    added = history.add(
        scenario, **vars(cells), since=since, until=until, every=every, path=path, anchor=anchor, minutes=minutes,
        rounds=rounds, seed=seed, folder=folder, cache_dir=cache_dir, progress=True,
    )  # fmt: skip
    print_view(added.view, form)
    return added.exit_code


@app.command
def show(*, since: Since = None, file: File = None, folder: Folder = None, form: Format = "terminal") -> int:
    """Show each cell over commits in a line, the confirmed changes, and the worst since a revision.

    ```
    attnbench history show --since v0.1
    ```
    """
    from attnbench.api import history

    print_view(history.show(since=since, file=file, folder=folder).view, form)
    return 0


@app.command
def page(
    *,
    since: Since = None,
    file: File = None,
    folder: Folder = None,
    link: str | None = None,
    out: Path | None = None,
    force: Force = False,
) -> int:
    """Write the history as a page that opens offline; prints its path.

    ```
    attnbench history page --out site/history --force
    ```

    Args:
        link: address of a commit's diff, with {revision} for its hash; default as the remote origin has it.
        out: folder of the page; default reports/runs/history-MACHINE-KEY.
    """
    from attnbench.api import history

    written = history.page(since=since, file=file, folder=folder, link=link, out=out, force=force)
    sys.stdout.write(f"{written.page}\n")
    return 0


@app.command
def find(
    scenario: SomeScenario = "gate-smoke",
    *,
    candidates: Switch = False,
    minutes: Minutes = 60.0,
    until: str = "HEAD",
    cells: GateCells = GateCells(),
    delta: Deltas = None,
    rounds: GateRounds = 4,
    confirm: GateConfirm = 6,
    seed: SeedOfGate = 0,
    folder: Folder = None,
    cache_dir: Cache = None,
    form: Format = "terminal",
) -> int:
    """Find the commits that changed cells: candidates from the history, each confirmed by the gate.

    Say the same scenario and selection as to ``add``. Only what the gate confirms on a commit and the one before it is
    reported. Exit codes: 0 nothing has become worse, 1 a commit made something worse, 6 a candidate could be neither
    confirmed nor ruled out.

    ```
    attnbench history find
    attnbench history find --candidates         # what it would look into
    ```

    Args:
        candidates: list the candidates and measure nothing.
        until: the newest revision.
        delta: change that is tolerated, as of attnbench gate; repeatable.
    """
    from attnbench.api import history

    found = history.find(
        scenario, **vars(cells), candidates=candidates, minutes=minutes, until=until, delta=delta, rounds=rounds,
        confirm=confirm, seed=seed, folder=folder, cache_dir=cache_dir, progress=True,
    )  # fmt: skip
    print_view(found.view, form)
    return found.exit_code


@app.command
def bisect(
    scenario: SomeScenario = "gate-smoke",
    *,
    cell: str,
    good: str,
    bad: str = "HEAD",
    metric: Literal["time", "memory", "outcome"] = "time",
    cells: GateCells = GateCells(),
    delta: Deltas = None,
    rounds: GateRounds = 4,
    confirm: GateConfirm = 6,
    seed: SeedOfGate = 0,
    folder: Folder = None,
    cache_dir: Cache = None,
    form: Format = "terminal",
) -> int:
    """Find the commit that made one cell slower, bigger or wrong, as git bisect does, with the gate as the judge.

    Commits that cannot be judged are skipped. Exit code 6 when no single commit was found.

    ```
    attnbench history bisect --cell 'numba/flash b1 h4 s1k' --good v0.1
    ```

    Args:
        cell: CASE_ID IMPLEMENTATION DEVICE, or words that only one label in the history has.
        good: a revision before the change.
        bad: a later revision that has it.
        metric: time, memory or outcome.
        delta: change that is tolerated, as of attnbench gate; repeatable.
    """
    from attnbench.api import history

    ended = history.bisect(
        scenario, **vars(cells), cell=cell, good=good, bad=bad, metric=metric, delta=delta, rounds=rounds,
        confirm=confirm, seed=seed, folder=folder, cache_dir=cache_dir, progress=True,
    )  # fmt: skip
    print_view(ended.view, form)
    return ended.exit_code
