"""Finds and reads scenario files, and reports all their mistakes at once."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.sweep.fields import fields_of
from attnbench.sweep.files.paths import anchored_table
from attnbench.sweep.nearest import did_you_mean
from attnbench.untrusted.printable import shown
from attnbench.untrusted.regular_file import read_regular
from attnbench.untrusted.toml_text import parse_toml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

    from pydantic.json_schema import JsonSchemaValue

    from attnbench.sweep.model import Scenario
    from attnbench.sweep.tables import Table

_PACKAGE = "attnbench.scenarios"
_SUFFIX = ".toml"
_MOST_BYTES = 8 * 2**20


def bundled_scenarios() -> dict[str, str]:
    """Return the descriptions of all scenarios that come with attnbench, by name, sorted."""
    found = {}
    for entry in resources.files(_PACKAGE).iterdir():
        if entry.name.endswith(_SUFFIX):
            table = tomllib.loads(entry.read_text(encoding="utf-8"))
            found[entry.name.removesuffix(_SUFFIX)] = str(table.get("description", ""))
    return dict(sorted(found.items()))


def load_scenario(name_or_path: str) -> Scenario:
    """Load a bundled scenario by its name, or one from a ``.toml`` file.

    Raises:
        ScenarioError: if it is malformed; lists every mistake with its place.
    """
    from attnbench.sweep.model import ScenarioError

    where, table = _where(name_or_path), _read(name_or_path)
    base = table.get("extends")
    if isinstance(base, str):
        if base.endswith(_SUFFIX) and name_or_path.endswith(_SUFFIX):
            base = str(Path(name_or_path).parent / base)
        try:
            base_table = _read(base)
        except ScenarioError as error:
            raise ScenarioError(where, [f"extends: {error}"]) from error
        if "extends" in base_table:
            sentence = f"extends: {shown(base)} extends {shown(base_table['extends'])} itself; one level is allowed"
            raise ScenarioError(where, [sentence])
        _validate(base, base_table)
        whole = _validate(name_or_path, _inherit(base_table, table))
        return whole.extending(_fields_in([*_setting(table), *table.get("shapes", {}).values()]))
    return _validate(name_or_path, table)


def scenario_schema() -> JsonSchemaValue:
    """Return the JSON Schema of a scenario file."""
    from attnbench.sweep.model import Scenario

    schema = Scenario.model_json_schema()
    del schema["required"]  # the name defaults to the file's
    return schema


def _where(name_or_path: str) -> str:
    return name_or_path if name_or_path.endswith(_SUFFIX) else f"scenario {name_or_path!r}"


def _read(name_or_path: str) -> Table:
    """Read the table of a scenario's file."""
    from attnbench.sweep.model import ScenarioError

    where = _where(name_or_path)
    path: Path | Traversable = Path(name_or_path)
    if not name_or_path.endswith(_SUFFIX):
        known = bundled_scenarios()
        if name_or_path not in known:
            hint = did_you_mean(name_or_path, known)
            sentence = (
                f"no scenario has this name{hint} (there are {', '.join(known)}; or give the path of a .toml file)"
            )
            raise ScenarioError(where, [sentence])
        path = resources.files(_PACKAGE) / f"{name_or_path}{_SUFFIX}"
    try:
        data = read_regular(path, _MOST_BYTES) if isinstance(path, Path) else path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: the path contains a null character
        raise ScenarioError(where, [f"it cannot be read: {getattr(error, 'strerror', error)}"]) from error
    try:
        table = parse_toml(data)
    except ValueError as error:
        raise ScenarioError(where, [f"it is not TOML: {error}"]) from error
    return _with_paths(table, path.parent) if isinstance(path, Path) else table


def _with_paths(table: Table, folder: Path) -> Table:
    """Resolve relative paths of tensor files from the scenario's folder."""

    def placed(fields: Any) -> Any:
        return anchored_table(fields, folder) if isinstance(fields, dict) else fields

    found = dict(table)
    found |= {key: placed(table[key]) for key in ("defaults", "axes") if key in table}
    if isinstance(shapes := table.get("shapes"), dict):
        found["shapes"] = {name: placed(shape) for name, shape in shapes.items()}
    if isinstance(groups := table.get("zip"), list):
        found["zip"] = [placed(group) for group in groups]
    return found


def _inherit(base: Table, own: Table) -> Table:
    """Complete a scenario's table with the entries of its base; tables are merged entry by entry.

    A field that this scenario sets for all its cases replaces the base's, whichever of the base's tables sets it.
    """
    replaced = _fields_in(_setting(own))
    merged = {key: value for key, value in base.items() if key != "name"}
    for key in ("defaults", "axes"):
        merged[key] = _without(base.get(key, {}), replaced)
    merged["zip"] = [group for group in (_without(group, replaced) for group in base.get("zip", [])) if group]
    merged["shapes"] = {name: _without(shape, replaced) for name, shape in base.get("shapes", {}).items()}
    for key, value in own.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both_tables else value
    return merged


def _setting(own: Table) -> list[Any]:
    """Return the tables that set fields for all cases: defaults, axes and groups."""
    groups = own.get("zip", [])
    return [own.get("defaults"), own.get("axes"), *(groups if isinstance(groups, list) else [])]


def _fields_in(tables: Iterable[Any]) -> set[str]:
    return {field for table in tables if isinstance(table, dict) for name in table for field in fields_of(name)}


def _without(table: Table, replaced: set[str]) -> Table:
    """Return a table without the replaced fields; if ``seqlen_q`` is replaced, ``seqlen`` becomes ``seqlen_kv``."""
    kept: Table = {}
    for name, value in table.items():
        left = [field for field in fields_of(name) if field not in replaced]
        kept |= {name: value} if len(left) == len(fields_of(name)) else dict.fromkeys(left, value)
    return kept


def _validate(name_or_path: str, table: Table) -> Scenario:
    from pydantic import ValidationError

    from attnbench.sweep.mistakes import sentences
    from attnbench.sweep.model import Scenario, ScenarioError

    name = Path(name_or_path).stem if name_or_path.endswith(_SUFFIX) else name_or_path
    try:
        return Scenario.model_validate({"name": name, **table})
    except ValidationError as error:
        raise ScenarioError(_where(name_or_path), sentences(error, Scenario)) from error
