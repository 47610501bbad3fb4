"""Checks that a resumed run measures the same things on the same machine as it began with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError
from attnbench.machine.environment import environment, machine_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnbench.registry.found import Found
    from attnbench.runner.planning.plan import Cell
    from attnbench.store.header import Header


class ResumeError(UsageError):
    """One run file would mix results of different machines or code: a usage error, exit code 2."""


def require_same(path: object, header: Header, planned: Sequence[Cell], left: Sequence[Cell]) -> None:
    """Raise unless new records would be comparable with the existing ones.

    ``planned`` are all cells of the run, as its request is planned now, and ``left`` those without a record.

    Raises:
        ResumeError: the machine, versions or implementations differ from the header's.
    """
    here = environment()
    others = list(_other_machine(header, here)) or [
        *_other_versions(header.environment, here),
        *_other_implementations(header.implementations, {cell.found.name for cell in planned}, left),
    ]
    if others:
        raise ResumeError(f"{path} cannot go on: {'; '.join(others)}. Undo that, or begin another run")


def _other_machine(header: Header, here: Mapping[str, Any]) -> Iterable[str]:
    key = machine_key(here)
    if key != header.machine_key:
        names = [f"{one.get('cpu_model') or 'unknown CPU'}" for one in (header.environment, here)]
        yield f"it began on another machine ({names[0]}, {header.machine_key}; this one is {names[1]}, {key})"


def _other_versions(then: Mapping[str, Any], here: Mapping[str, Any]) -> Iterable[str]:
    before, now = ({"python": one.get("python"), **(one.get("versions") or {})} for one in (then, here))
    for name in before.keys() & now.keys():
        if before[name] != now[name]:
            yield f"{name} was {before[name] or 'not installed'} and is {now[name] or 'not installed'} now"


def _other_implementations(
    then: Mapping[str, Mapping[str, Any]], planned: set[str], left: Iterable[Cell]
) -> Iterable[str]:
    for name in sorted(then.keys() - planned):
        yield f"{name} is no longer there"
    running: dict[str, Found] = {cell.found.name: cell.found for cell in left}
    for name, found in sorted(running.items()):
        if name not in then:
            yield f"{name} was not there when it began"
        elif found.source_hash != then[name].get("source_hash"):
            yield f"{name} has changed since ({_where(found, then[name])})"


def _where(found: Found, then: Mapping[str, Any]) -> str:
    """Return the place of an implementation's code, and both hashes."""
    files = ", ".join(found.files) or found.origin.target
    return f"{files}; source {then.get('source_hash')} then, {found.source_hash} now"
