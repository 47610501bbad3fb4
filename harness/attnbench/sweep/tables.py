"""Tables of fields in a scenario: single values, axes, and groups that vary together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from attnbench.sweep.fields import NAMES, parse_value, parse_values, value_schema
from attnbench.sweep.mistakes import Mistakes
from attnbench.sweep.nearest import unknown

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue

Table = dict[str, Any]
"""A table from TOML, not yet checked."""


def _single_values(table: Table) -> Table:
    """Check a table with one value per field."""
    mistakes = Mistakes()
    for name in _known(table, mistakes):
        mistakes.try_value((name,), _one_value, name, table[name])
    mistakes.report()
    return table


def _one_value(name: str, value: object) -> object:
    try:
        return parse_value(name, value)
    except ValueError as error:
        raise ValueError(f"{error}; several values go into [axes]" if isinstance(value, list) else error) from None


def _axes(table: Table) -> Table:
    """Check a table with a list of values per field, or one value, which may be a range."""
    mistakes = Mistakes()
    for name in _known(table, mistakes):
        values = table[name]
        if values == []:
            mistakes.add((name,), "an axis without values leaves no case")
        for index, value in enumerate(values if isinstance(values, list) else [values]):
            place = (name, index) if isinstance(values, list) else (name,)
            mistakes.try_value(place, parse_values, name, value)
    mistakes.report()
    return table


def _zip(table: Table) -> Table:
    """Check a table with a list of values per field, all of the same length."""
    mistakes = Mistakes()
    lengths = {}
    for name in _known(table, mistakes):
        values = table[name]
        if not isinstance(values, list):
            mistakes.add((name,), f"{values!r} is not a list: fields that vary together have one value for each step")
            continue
        lengths[name] = len(values)
        for index, value in enumerate(values):
            mistakes.try_value((name, index), parse_value, name, value)
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        mistakes.add((), f"lists that vary together must be equally long: {counted}")
    elif not table or set(lengths.values()) == {0}:
        mistakes.add((), "a group without values leaves no case")
    mistakes.report()
    return table


def _known(table: Table, mistakes: Mistakes) -> list[str]:
    """Return the keys that are fields, and add a mistake for each other key."""
    for name in table:
        if name not in NAMES:
            mistakes.add((name,), unknown("field", name, NAMES))
    return [name for name in table if name in NAMES]


def _object(properties: dict[str, JsonSchemaValue]) -> JsonSchemaValue:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _axis_schema(name: str) -> JsonSchemaValue:
    one = value_schema(name, ranges=True)
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


Fixed = Annotated[Table, AfterValidator(_single_values), WithJsonSchema(_object({n: value_schema(n) for n in NAMES}))]
Axes = Annotated[Table, AfterValidator(_axes), WithJsonSchema(_object({n: _axis_schema(n) for n in NAMES}))]
Zip = Annotated[
    Table,
    AfterValidator(_zip),
    WithJsonSchema(_object({n: {"type": "array", "items": value_schema(n), "minItems": 1} for n in NAMES})),
]
