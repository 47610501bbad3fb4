"""Rules that drop cells from a sweep."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from attnbench.sweep.fields import NAMES, fields_of, is_quantity, parse_value, value_schema
from attnbench.sweep.mistakes import Mistakes
from attnbench.sweep.nearest import unknown
from attnbench.untrusted.pattern import found_in, pattern_mistake
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic.json_schema import JsonSchemaValue

Device = Literal["cpu", "cuda"]

_COMPARISON = re.compile(r"(<=|>=|<|>)\s*(.*)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _regular_expression(text: str) -> str:
    if reason := pattern_mistake(text):
        raise ValueError(f"it is no regular expression: {reason}")
    return text


Pattern = Annotated[str, AfterValidator(_regular_expression)]


def _describe_conditions(schema: JsonSchemaValue) -> None:
    """Put the fields into the JSON Schema, and allow no others."""
    for name in NAMES:
        one = value_schema(name)
        if is_quantity(name):
            one = {"anyOf": [one, {"type": "string", "pattern": "^[<>]"}]}
        schema["properties"][name] = {"anyOf": [one, {"type": "array", "items": one}]}
    schema["additionalProperties"] = False


class Exclude(BaseModel):
    """Drops the cells that match all of its entries: a value, a list of values, or a comparison such as ``> 4k``."""

    model_config = ConfigDict(frozen=True, extra="allow", json_schema_extra=_describe_conditions)

    device: Device | None = None
    implementation: Pattern | None = Field(default=None, description="A regular expression.")
    reason: str | None = Field(default=None, description="One sentence: why these cells are left out.")

    @property
    def conditions(self) -> dict[str, object]:
        """Conditions on the case, by field."""
        return self.model_extra or {}

    @model_validator(mode="after")
    def _conditions_can_hold(self) -> Self:
        mistakes = Mistakes()
        for name, wanted in self.conditions.items():
            if name not in NAMES:
                known = (*NAMES, "device", "implementation", "reason")
                mistakes.add((name,), unknown("field", name, known))
                continue
            for index, item in enumerate(wanted if isinstance(wanted, list) else [wanted]):
                try:
                    _holds(name, item, None)
                except ValueError as error:
                    mistakes.add((name, index) if isinstance(wanted, list) else (name,), str(error))
        if self.device is None and self.implementation is None and not self.conditions:
            mistakes.add((), "a rule without a condition would drop every cell")
        mistakes.report()
        return self

    def concerns(self, device: str | None, implementation: str | None) -> bool:
        """Whether the rule may drop cells of this implementation on this device."""
        if self.device is not None and self.device != device:
            return False
        return self.implementation is None or (
            implementation is not None and found_in(self.implementation, implementation)
        )

    def matches(self, fields: Mapping[str, object], device: str | None, implementation: str | None) -> bool:
        """Whether the rule drops a cell of a case with these fields; conditions on a field of ``None`` never hold."""
        return self.concerns(device, implementation) and all(
            any(_holds(field, item, fields[field]) for item in (wanted if isinstance(wanted, list) else [wanted]))
            for name, wanted in self.conditions.items()
            for field in fields_of(name)
        )


def _holds(name: str, wanted: object, value: object) -> bool:
    """Whether a field's value equals the wanted one, or satisfies the wanted comparison.

    Raises:
        ValueError: if the condition can never hold for this field.
    """
    match = _COMPARISON.fullmatch(wanted) if isinstance(wanted, str) else None
    if match is None:
        parsed = parse_value(name, wanted)
        return value is not None and value == parsed
    if not is_quantity(name):
        raise ValueError(f"{shown(wanted)} compares, and {name} has no order")
    bound = parse_value(name, match[2])
    return value is not None and _COMPARE[match[1]](value, bound)
