"""Finds scenario files, reads them, and reports all their mistakes at once."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.sweep.fields import did_you_mean
from attnbench.sweep.model import Scenario, ScenarioError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_PACKAGE = "attnbench.scenarios"


def bundled_scenarios() -> dict[str, str]:
    """Name and description of every scenario that comes with attnbench, sorted by name."""
    found = {}
    for entry in resources.files(_PACKAGE).iterdir():
        if entry.name.endswith(".toml"):
            found[entry.name.removesuffix(".toml")] = str(tomllib.loads(entry.read_text()).get("description", ""))
    return dict(sorted(found.items()))


def load_scenario(name_or_path: str) -> Scenario:
    """A bundled scenario by its name, or one from a ``.toml`` file.

    Raises:
        ScenarioError: with every mistake and its place.
    """
    where, table = _read(name_or_path)
    base = table.get("extends")
    if isinstance(base, str):
        base_where, base_table = _read(base, beside=Path(name_or_path) if name_or_path.endswith(".toml") else None)
        if "extends" in base_table:
            raise ScenarioError(where, [f"extends: {base!r} extends {base_table['extends']!r} itself; one level is allowed"])
        _validate(base_where, base, base_table)
        table = _inherit(base_table, table)
    return _validate(where, Path(name_or_path).stem if name_or_path.endswith(".toml") else name_or_path, table)


def scenario_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    schema = Scenario.model_json_schema()
    schema["required"] = []  # the name defaults to the file's
    return schema


def _read(name_or_path: str, beside: Path | None = None) -> tuple[str, dict[str, Any]]:
    """Where a scenario lies and what its file says."""
    path: Path | Traversable
    if name_or_path.endswith(".toml"):
        path = (beside.parent if beside else Path()) / name_or_path
        where = str(path)
    else:
        path = resources.files(_PACKAGE) / f"{name_or_path}.toml"
        where = f"scenario {name_or_path!r}"
        if not path.is_file():
            known = bundled_scenarios()
            hint = did_you_mean(name_or_path, known)
            raise ScenarioError(where, [f"there is none of this name{hint} (there are {', '.join(known)})"])
    try:
        return where, tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ScenarioError(where, [f"it cannot be read: {error.strerror}"]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(where, [f"it is not TOML: {error}"]) from error


def _inherit(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The base's entries where this scenario has none; of tables, entry by entry."""
    merged = dict(base)
    for key, value in own.items():
        both_tables = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = {**base[key], **value} if both_tables else value
    return merged


def _validate(where: str, name: str, table: dict[str, Any]) -> Scenario:
    from pydantic import ValidationError

    try:
        return Scenario.model_validate({"name": name, **table})
    except ValidationError as error:
        raise ScenarioError(where, _sentences(error)) from error


def _sentences(error: ValidationError) -> list[str]:
    return [_sentence(detail) for detail in error.errors()]


def _sentence(detail: ErrorDetails) -> str:
    place = ""
    for step in detail["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
    if detail["type"] == "extra_forbidden":
        known = Scenario.model_fields if len(detail["loc"]) == 1 else ()
        if detail["loc"][0] == "limits":
            from attnbench.sweep.model import Limits

            known = Limits.model_fields
        return f"{place}: unknown key{did_you_mean(str(detail['loc'][-1]), known)}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "literal_error":
        message = f"{detail['input']!r} is none of {detail.get('ctx', {}).get('expected')}"
    return f"{place}: {message}"
