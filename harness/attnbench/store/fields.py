"""Checks of a record's values; validation by pydantic would take longer than the rest of reading."""

from __future__ import annotations

import dataclasses
import functools
import operator
import sys
import types
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from attnbench.cases.case import FIELDS, Case, CaseError, make_case
from attnbench.store.record import METRICS, Record
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOUNS = {str: "a text", int: "an integer", float: "a number", bool: "true or false", tuple: "a list"}
_ANY_NUMBER = (-sys.float_info.max, sys.float_info.max)
_ANY_INTEGER = (-(2**63), 2**63 - 1)
_ANY_COUNT = (0, 2**63 - 1)
_ANY_MEASURE = (0.0, 1e100)
"""Bounds of measurements and values derived from them: not negative, and products of two still fit a float."""
_LONGEST_TEXT = 100_000
_LONGEST_NAME = 200
"""Longest name of an implementation, which appears in legends and in every table."""
_ANY_ERROR = (0.0, sys.float_info.max)
"""Gradients of large logits can be as large as the dtype allows, and so can their errors and budgets."""
_ANY_PEAK = (1e-9, 1e18)
"""Excludes 0, since shares are computed from it."""
_ANY_TIME = (1e-3, 1e18)
"""Nanoseconds, up to thirty years; excludes 0, since ratios and logarithms are computed from it."""
_of_case = operator.itemgetter(*FIELDS)


class FieldError(ValueError):
    """A record has an impossible value. The message is a sentence that begins with the field's name."""


class Cases:
    """The cases of a run file's records, each checked once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Case] = {}

    def of(self, record: Mapping[str, Any]) -> Case:
        """Check all values of a record, and return its case.

        Raises:
            FieldError: if a value is impossible.
        """
        for field in _fields():
            value = record[field.name]
            if type(value) not in field.types:
                raise FieldError(f"{field.name} is {shown(value)}, not {field.noun}")
            if type(value) is str and len(value) > field.longest:
                raise FieldError(f"{field.name} is longer than {field.longest:,} characters")
            if value is not None and not field.is_possible(value):
                raise FieldError(f"{field.name} is {shown(value)}, which cannot be")
        key = tuple([tuple(value) if type(value) is list else value for value in _of_case(record)])
        if key not in self._known:
            self._known[key] = _case(dict(zip(FIELDS, key, strict=True)))
        return self._known[key]


def _case(given: dict[str, object]) -> Case:
    try:
        case = make_case(**given)
    except CaseError as error:
        raise FieldError(str(error)) from error
    for name, value in given.items():
        if getattr(case, name) != value:
            raise FieldError(f"{name} is {shown(value)}, which a case like this has not")
    return case


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Field:
    """Type and bounds of one field of a record."""

    name: str
    noun: str
    types: frozenset[type]
    """Types of the field in JSON."""
    elements: frozenset[type] | None
    """Types of a list's elements."""
    bounds: tuple[float, float] | None
    choices: frozenset[str] | None

    @property
    def longest(self) -> int:
        """Maximum number of characters of a text."""
        return _LONGEST_NAME if self.name == "implementation" else _LONGEST_TEXT

    def is_possible(self, value: Any) -> bool:
        """Whether a value of one of the types is possible."""
        if self.elements is not None:
            return set(map(type, value)) <= self.elements and (
                self.bounds is None or not value or (self.bounds[0] <= min(value) and max(value) <= self.bounds[1])
            )
        if self.choices is not None:
            return value in self.choices
        return self.bounds is None or self.bounds[0] <= value <= self.bounds[1]


@functools.cache
def _fields() -> tuple[_Field, ...]:
    hints = get_type_hints(Record)
    return tuple(_field(name, hints[name]) for name in Record.model_fields)


def _field(name: str, hint: Any) -> _Field:
    kinds = set(members_of(hint)) - {type(None)}
    (kind,) = kinds
    base: type = str if get_origin(kind) is Literal else get_origin(kind) or kind
    inner = members_of(get_args(kind)[0]) if base is tuple else ()
    none = {type(None)} & set(members_of(hint))
    return _Field(
        name=name,
        noun=f"{_NOUNS[base]}{' or null' if none else ''}",
        types=_of_json(base) | none,
        elements=frozenset[type]().union(*map(_of_json, inner)) if inner else None,
        bounds=_bounds(name, inner[0] if inner else base),
        choices=frozenset(get_args(kind)) if get_origin(kind) is Literal else None,
    )


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the single type."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _of_json(kind: type) -> frozenset[type]:
    """Return the types that JSON uses for values of this type."""
    return frozenset({float: (int, float), tuple: (list,)}.get(kind, (kind,)))


def _bounds(name: str, kind: type) -> tuple[float, float] | None:
    if name in METRICS and METRICS[name].unit == "ns" and METRICS[name].only_ok:
        return _ANY_TIME
    if "_error_" in name:
        return _ANY_ERROR if kind is float else _ANY_INTEGER
    if name.startswith("peak_"):
        return _ANY_PEAK
    if name in METRICS and METRICS[name].unit != "index":
        return {int: _ANY_COUNT, float: _ANY_MEASURE}.get(kind)
    return {int: _ANY_INTEGER, float: _ANY_NUMBER}.get(kind)
