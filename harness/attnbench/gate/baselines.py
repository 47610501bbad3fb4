"""Stored baselines: run files ``results/baselines/NAME/MACHINE_KEY.jsonl``, each with a note on when and why."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.gate.judge.inference import LEAST_ROUNDS
from attnbench.store.machines import by_machine
from attnbench.store.reader import read_run
from attnbench.store.record import FAILED, key_of
from attnbench.units import count
from attnbench.untrusted.json_text import parse_json
from attnbench.untrusted.names import name_mistake
from attnbench.untrusted.printable import printable, shown

if TYPE_CHECKING:
    from attnbench.store.reader import RunFile

FOLDER = Path("results/baselines")


class BaselineError(UsageError):
    """A run cannot become a baseline, or no baseline has the given name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """One stored run."""

    name: str
    machine_key: str
    path: Path
    created_at: str
    revision: str | None
    cells: int
    processes: int
    note: str | None
    """Reason given for the last update, if any."""


def save(run: RunFile, name: str | None = None, folder: Path = FOLDER) -> Path:
    """Store a run as the baseline of its machine, and return the new file.

    Raises:
        BaselineError: if the run is not fit to be a baseline, or there is one already.
    """
    target = _target(run, name, folder)
    _require_fit(run)
    if target.exists():
        raise BaselineError(f"{target} exists already; attnbench baseline update replaces it, with a reason")
    return _store(run, target, None)


def update(run: RunFile, reason: str, name: str | None = None, folder: Path = FOLDER) -> Path:
    """Replace the baseline by a run; the previous baseline is renamed and kept in the same folder.

    Raises:
        BaselineError: if the run is not fit to be a baseline, or the reason is empty.
    """
    if not reason.strip():
        raise BaselineError("a baseline is updated for a reason: --reason 'the safe softmax costs one more pass'")
    target = _target(run, name, folder)
    _require_fit(run)
    return _store(run, target, reason.strip())


def stored(folder: Path = FOLDER) -> list[Baseline]:
    """Return all current baselines, sorted by name and machine."""
    found = []
    for path in sorted(folder.glob("*/*.jsonl")):
        if ".until-" in path.name:
            continue
        run = read_run(path)
        found.append(
            Baseline(
                name=path.parent.name,
                machine_key=run.header.machine_key,
                path=path,
                created_at=run.header.created_at,
                revision=(run.header.environment.get("git") or {}).get("revision"),
                cells=len(set(map(key_of, run.records))),
                processes=run.header.replicates,
                note=_note(path.with_suffix(".json")),
            )
        )
    return found


def _note(path: Path) -> str | None:
    """Return the reason in a baseline's note; ``None`` if there is none or the note cannot be read."""
    try:
        about = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    reason = about.get("reason") if isinstance(about, dict) else None
    return printable(reason) if isinstance(reason, str) else None


def find_baseline(name_or_path: str, machine_key: str, folder: Path = FOLDER) -> Path:
    """Return the run file of a baseline.

    A name that ends in ``.jsonl`` is a path. Any other name gives this machine's baseline of that name, or else another
    machine's, which the gate then refuses with the reason.

    Raises:
        BaselineError: if no baseline has that name.
    """
    if name_or_path.endswith(".jsonl"):
        return Path(name_or_path)
    own = folder / name_or_path / f"{machine_key}.jsonl"
    if own.is_file():
        return own
    every = stored(folder)
    for one in every:
        if one.name == name_or_path:
            return one.path
    names = ", ".join(sorted({one.name for one in every})) or "none at all"
    raise BaselineError(f"there is no baseline {name_or_path!r} in {folder} (there are: {names})")


def not_of_one_machine(run: RunFile) -> str | None:
    """Return why a run cannot be the baseline of one machine (it mixes several), or ``None`` if it can."""
    keys = {run.header.machine_key: None, **{one.header.machine_key: None for one in by_machine(run)}}
    several = f"{run.path} is of several kinds of machines ({', '.join(keys)}), and a baseline is of one"
    return several if len(keys) > 1 else None


def _target(run: RunFile, name: str | None, folder: Path) -> Path:
    chosen = name or run.header.scenario_name
    for noun, text in (("a baseline", chosen), ("a machine", run.header.machine_key)):
        if reason := name_mistake(text):
            raise BaselineError(f"{shown(text)} is no name for {noun}: {reason}")
    return folder / chosen / f"{run.header.machine_key}.jsonl"


def _require_fit(run: RunFile) -> None:
    if reason := not_of_one_machine(run):
        raise BaselineError(reason)
    if not run.is_complete:
        raise BaselineError(f"{run.path} is incomplete: attnbench run --resume {run.path}")
    if run.header.replicates < LEAST_ROUNDS:
        raise BaselineError(
            f"{run.path} has {count(run.header.replicates, 'process', 'processes')} for each cell, "
            f"a baseline needs {LEAST_ROUNDS}: attnbench run SCENARIO --replicates 6"
        )
    bad = [record for record in run.records if record["status"] in FAILED or record["status"] == "wrong"]
    if bad:
        raise BaselineError(
            f"{run.path}: {bad[0]['implementation']} is {bad[0]['status']} in it; "
            "what is wrong or broken is no baseline"
        )
    if not any(record["time_median_ns"] is not None for record in run.records):
        raise BaselineError(f"{run.path} has no times")


def _store(run: RunFile, target: Path, reason: str | None) -> Path:
    """Write both files beside their places, rename those of the previous baseline, and move the new ones in."""
    note = {"stored_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "reason": reason}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as beside:
            new = Path(beside) / target.name
            shutil.copyfile(run.path, new)
            new.with_suffix(".json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
            if target.exists():
                before = read_run(target).header.created_at.replace(":", "").replace("-", "")[:15]
                for old in (target, target.with_suffix(".json")):
                    if old.exists():
                        old.replace(old.with_name(f"{old.stem}.until-{before}{old.suffix}"))
            for made in (new, new.with_suffix(".json")):
                made.replace(target.parent / made.name)
    except OSError as error:  # such as standard input, or a name that cannot be shown
        raise BaselineError(f"{run.path} cannot be copied to {target}: {error.strerror}") from error
    return target
