"""What a scenario file may say. The descriptions are the format's documentation (``attnbench schema scenario``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from attnbench.sweep.fields import parse_value, parse_values, unknown_field
from attnbench.sweep.sizes import parse_size

if TYPE_CHECKING:
    from attnbench.cases.case import Case


class ScenarioError(ValueError):
    """A scenario is not usable. ``problems`` holds one sentence for each mistake, with its place."""

    def __init__(self, where: str, problems: list[str]) -> None:
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{where}: {problems[0]}" if len(problems) == 1 else f"{where} has {len(problems)} mistakes:{lines}")
        self.problems = problems


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from error
    return text


Pattern = Annotated[str, BeforeValidator(_regular_expression)]
Device = Literal["cpu", "cuda"]
StageName = Literal["agreement", "time", "memory"]

_COMPARISON = re.compile(r"(<=|>=|<|>)\s*(\w+)")
_COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Strict):
    """What one cell may take."""

    time_s: float = Field(120.0, gt=0, description="Wall time of a cell; beyond, its worker is killed.")
    memory_gib: float | None = Field(
        None, gt=0, description="Memory of a worker for a cell; default four fifths of what the machine has left."
    )
    sampling_s: float = Field(1.0, gt=0, description="Seconds of sampling for each cell and process.")
    min_samples: int = Field(10, ge=3)
    max_samples: int = Field(200, ge=3)


class Exclude(_Strict):
    """Drops the cells that match all of its entries: a value, a list of values, or a comparison such as ``> 4k``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    device: Device | None = None
    implementation: Pattern | None = Field(None, description="A regular expression.")
    reason: str | None = None

    @model_validator(mode="after")
    def _conditions_are_known(self) -> Self:
        for name, wanted in (self.model_extra or {}).items():
            problem = unknown_field(name)
            if problem:
                raise ValueError(problem)
            for item in wanted if isinstance(wanted, list) else [wanted]:
                if not _is_comparison(item):
                    parse_value(name, item)
        if self.device is None and self.implementation is None and not self.model_extra:
            raise ValueError("a rule without a condition would drop every cell")
        return self

    def matches(self, case: Case, device: str | None, implementation: str | None) -> bool:
        """Whether the rule drops this cell; conditions on what is not given never match."""
        if self.device is not None and self.device != device:
            return False
        if self.implementation is not None and (
            implementation is None or not re.search(self.implementation, implementation)
        ):
            return False
        return all(_holds(name, wanted, case) for name, wanted in (self.model_extra or {}).items())


def _is_comparison(item: object) -> bool:
    match = _COMPARISON.fullmatch(item) if isinstance(item, str) else None
    if isinstance(item, str) and item[:1] in "<>" and (match is None or parse_size(match[2]) is None):
        raise ValueError(f"{item!r} is not a comparison: write for example '> 4k'")
    return match is not None


def _holds(name: str, wanted: object, case: Case) -> bool:
    from attnbench.sweep.fields import SHORTHANDS

    return all(_equals(field, wanted, getattr(case, field)) for field in SHORTHANDS.get(name, (name,)))


def _equals(field: str, wanted: object, value: object) -> bool:
    if isinstance(wanted, list):
        return any(_equals(field, item, value) for item in wanted)
    if _is_comparison(wanted):
        match = _COMPARISON.fullmatch(str(wanted))
        assert match is not None
        return value is not None and bool(_COMPARE[match[1]](value, parse_size(match[2])))
    return value == parse_value(field, wanted)


def _known_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Check names and values of a table of fields; a list stands for several values."""
    problems = []
    for name, value in values.items():
        problem = unknown_field(name)
        if problem:
            problems.append(problem)
            continue
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            try:
                parse_values(name, item)
            except ValueError as error:
                problems.append(f"{name}[{index}]: {error}" if isinstance(value, list) else f"{name}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return values


def _single_values(values: dict[str, Any]) -> dict[str, Any]:
    """Check a table in which each field has one value."""
    problems = []
    for name, value in values.items():
        try:
            problem = unknown_field(name)
            if problem:
                raise ValueError(problem)
            parse_value(name, value)
        except ValueError as error:
            problems.append(f"{error}" if unknown_field(name) else f"{name}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return values


def _equally_long(values: dict[str, Any]) -> dict[str, Any]:
    lengths = {name: len(value) if isinstance(value, list) else None for name, value in values.items()}
    if None in lengths.values() or len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"fields that vary together need lists of the same length, not {lengths}")
    return _known_fields(values)


def _not_empty(values: dict[str, Any]) -> dict[str, Any]:
    empty = [name for name, value in values.items() if value == []]
    if empty:
        raise ValueError(f"{', '.join(empty)}: an axis without values leaves no case")
    return _known_fields(values)


Fixed = Annotated[dict[str, Any], BeforeValidator(_single_values)]
Axes = Annotated[dict[str, Any], BeforeValidator(_not_empty)]
Zip = Annotated[dict[str, Any], BeforeValidator(_equally_long)]


class Scenario(_Strict):
    """A named sweep: axes that expand to cases, which implementations, limits."""

    name: str = Field(description="Defaults to the file's name.")
    description: str = Field("", description="One sentence.")
    source: str | None = Field(None, description="Where the shapes come from.")
    extends: str | None = Field(None, description="A scenario whose entries stand where this one says nothing.")
    tags: tuple[str, ...] = ()
    implementations: tuple[Pattern, ...] = Field((), description="Regular expressions; empty is all.")
    exclude_implementations: tuple[Pattern, ...] = ()
    baseline: str | None = Field(None, description="The implementation that speed-ups are relative to.")
    devices: tuple[Device, ...] = Field(("cpu",), min_length=1)
    stages: tuple[StageName, ...] = Field(
        ("agreement", "time", "memory"), description="What is measured; agreement always is."
    )
    defaults: Fixed = Field(default_factory=dict, description="Fields that are the same for all cases.")
    axes: Axes = Field(default_factory=dict, description="Fields with lists of values; all combinations are cases.")
    zip: tuple[Zip, ...] = Field((), description="Groups of fields whose lists advance together.")
    shapes: dict[str, Fixed] = Field(
        default_factory=dict, description="Named partial cases, combined with the axes; the name becomes a cell's tag."
    )
    exclude: tuple[Exclude, ...] = ()
    limits: Limits = Limits()

    def excluded(self, case: Case, device: str | None = None, implementation: str | None = None) -> str | None:
        """Why the scenario leaves this cell out, or ``None``."""
        for rule in self.exclude:
            if rule.matches(case, device, implementation):
                return rule.reason or "the scenario excludes it"
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what a run's header keeps."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Scenario:
        """The scenario that a run's header keeps."""
        return cls.model_validate(stored)
