"""The command that reproduces a cell, made of the cell's own fields."""

from __future__ import annotations

import functools
import re
import shlex
from typing import TYPE_CHECKING

from attnbench.cases.case import DEFAULTS, CaseError, make_case

if TYPE_CHECKING:
    from attnbench.cases.case import Case


def repro_command(case: Case, implementation: str, plugin: str | None, device: str) -> str:
    """Return an ``attnbench run`` command without a scenario: one implementation, and the axes that are not default.

    ``plugin`` is the file that the implementation comes from, if it is a plug-in.
    """
    axes = [_axis(name, value) for name, value in needed_fields(case).items()]
    return " ".join([_selection(implementation, plugin, device), *axes])


class Commands:
    """Commands for the records of a run file, whose own ones are untrusted and only used after a check."""

    def __init__(self) -> None:
        self._axes: dict[Case, list[str]] = {}
        self._selections: dict[tuple[str, str | None, str], str] = {}

    def of(self, said: str, case: Case, implementation: str, plugin: str | None, device: str) -> str:
        """Return the command of a record.

        The record's own command is the shortest one, which takes long to compute. It is therefore used if it consists
        only of the record's fields.
        """
        key = (implementation, plugin, device)
        if key not in self._selections:
            self._selections[key] = _selection(*key)
        if case not in self._axes:
            self._axes[case] = [_axis(name, _written(v)) for name, v in case.to_dict().items() if v is not None]
        rest = said.removeprefix(self._selections[key]) if said.startswith(self._selections[key]) else None
        for axis in self._axes[case]:
            rest = rest and rest.removeprefix(f" {axis}")
        return said if rest == "" else repro_command(case, *key)


def needed_fields(case: Case) -> dict[str, str]:
    """Return the fields that differ from the defaults, spelled as on the command line."""
    fields = case.to_dict()
    return {name: _written(fields[name]) for name in _needed(case)}


@functools.lru_cache(maxsize=1024)
def _needed(case: Case) -> tuple[str, ...]:
    fields = {name: value for name, value in case.to_dict().items() if value is not None and value != DEFAULTS[name]}
    for name in list(fields):
        rest = {other: value for other, value in fields.items() if other != name}
        if _makes(case, rest):
            fields = rest
    return tuple(fields)


def _selection(implementation: str, plugin: str | None, device: str) -> str:
    implementation, _, ranks = implementation.partition("@")
    name = re.escape(implementation).replace(r"\/", "/").replace(r"\-", "-")
    parts = ["attnbench", "run", "-i", f"^{name}$"]
    if plugin is not None:
        parts += ["--plugin", plugin]
    if device != "cpu":
        parts += ["--device", device]
    if ranks:
        parts += ["--ranks", ranks]
    return shlex.join(parts)


def _axis(name: str, value: str) -> str:
    return shlex.join(["-a", f"{name}={value}"])


def _makes(case: Case, fields: dict[str, object]) -> bool:
    try:
        return make_case(**fields) == case
    except CaseError:
        return False


def _written(value: object) -> str:
    if isinstance(value, list):
        return "+".join(str(item) for item in value)  # a list as one of several values: 3+5,4+4
    return str(value).lower() if isinstance(value, bool) else str(value)
