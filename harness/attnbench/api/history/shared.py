"""Shared by the functions of a history: this machine's file, and the workshop that builds revisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.api.gates import configured_plugins, plan_with_floors

if TYPE_CHECKING:
    import os

    from attnbench.api.progress import Log
    from attnbench.gate.judge.statistics import Rules
    from attnbench.history.workshop import Workshop
    from attnbench.runner.planning.request import Request


def workshop(
    request: Request, cache_dir: str | os.PathLike[str] | None, log: Log, rules: Rules, seed: int
) -> Workshop:  # fmt: skip
    """Return the workshop that builds revisions of the repository around the current folder."""
    from attnbench.history.workshop import Workshop
    from attnbench.machine.caches import own_cache

    return Workshop(
        here=Path.cwd(),
        cache=own_cache() if cache_dir is None else Path(cache_dir),
        request=request,
        plan_of=lambda sides: plan_with_floors(sides, request, rules, seed, None),
        plugins_of=configured_plugins,
        says=log.says,
        command=["attnbench", "gate"],
    )


def path_of_this_machine(folder: str | os.PathLike[str] | None) -> Path:
    """Return the path of this machine's history, which may not exist yet."""
    from attnbench.history.store import FOLDER, history_path
    from attnbench.machine.environment import environment, machine_key

    return history_path(machine_key(environment()), FOLDER if folder is None else Path(folder))
