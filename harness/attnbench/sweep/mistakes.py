"""Mistakes in a scenario, each with its place and a sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from attnbench.errors import UsageError
from attnbench.sweep.nearest import did_you_mean, unknown
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]

_NEEDED = {
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_type": "a text in quotes",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
}


_SHOWN = 20


class ScenarioError(UsageError):
    """A scenario is not usable. ``problems`` holds one sentence per mistake, with its place."""

    def __init__(self, where: str, problems: list[str]) -> None:
        lines = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        if len(problems) > _SHOWN:
            lines += f"\n  and {len(problems) - _SHOWN:,} more"
        super().__init__(
            f"{where}: {problems[0]}" if len(problems) == 1 else f"{where} has {len(problems)} mistakes:{lines}"
        )
        self.problems = problems


class Mistakes:
    """Collects the mistakes of one table, so that they are reported together, each with its place."""

    def __init__(self) -> None:
        self._found: list[InitErrorDetails] = []

    def add(self, place: Place, sentence: str) -> None:
        """Add a mistake; the place is relative to the table."""
        kind = PydanticCustomError("mistake", "{sentence}", {"sentence": sentence})
        self._found.append(InitErrorDetails(type=kind, loc=place, input=None))

    def try_value(self, place: Place, parse: Callable[[str, object], object], name: str, value: object) -> None:
        """Add a mistake if a field's value cannot be parsed."""
        try:
            parse(name, value)
        except ValueError as error:
            self.add(place, str(error))

    def report(self) -> None:
        """Raise if there are mistakes.

        Raises:
            ValidationError: with all of them; pydantic prepends the table's own place.
        """
        if self._found:
            raise ValidationError.from_exception_data("scenario", self._found)


def sentences(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one sentence per mistake that pydantic or :class:`Mistakes` found, with its place in the file."""
    return [_sentence(detail, model) for detail in error.errors()]


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    place, kind = detail["loc"], detail["type"]
    if kind == "extra_forbidden":
        text = unknown("key", str(place[-1]), _keys(model, place[:-1]))
    elif kind == "literal_error":
        choices = re.findall(r"'(\w+)'", detail["ctx"]["expected"])
        text = f"{shown(detail['input'])} is none of {', '.join(choices)}{did_you_mean(str(detail['input']), choices)}"
    elif kind == "tuple_type" and isinstance(detail["input"], dict):
        text = f"write [[{place[-1]}]] with two brackets: there may be several"
    elif kind in _NEEDED:
        text = f"{shown(detail['input'])} is not {_NEEDED[kind]}"
    elif kind == "mistake":
        text = detail["msg"]
    else:
        said = detail["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
        text = f"{shown(detail['input'])}: {said}"
    return f"{written(place)}: {text}" if place else text


def written(place: Place) -> str:
    """Format a place: ``("exclude", 0, "seqlen")`` becomes ``exclude[0].seqlen``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """Return the keys that the table at this place may have."""
    for step in place:
        inner = model.model_fields[str(step)].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        model = inner
    return list(model.model_fields)
