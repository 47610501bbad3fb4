"""The format of scenario files. Its descriptions are its documentation (``attnbench schema scenario``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from attnbench.sweep.exclude import Device, Exclude, Pattern
from attnbench.sweep.fields import NAMES, fields_of
from attnbench.sweep.mistakes import Mistakes, ScenarioError, written
from attnbench.sweep.tables import Axes, Fixed, Table, Zip
from attnbench.untrusted.names import name_mistake
from attnbench.untrusted.pattern import PatternError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from attnbench.cases.case import Case
    from attnbench.sweep.mistakes import Place

__all__ = ["Limits", "Scenario", "ScenarioError"]

StageName = Literal["agreement", "time", "memory", "energy"]
STAGES: tuple[StageName, ...] = get_args(StageName)
USUAL: tuple[StageName, ...] = ("agreement", "time", "memory")


def _with_agreement(stages: tuple[StageName, ...]) -> tuple[StageName, ...]:
    """Sort stages in the order of measuring, and add agreement: a cell that was not checked is never timed."""
    return tuple(stage for stage in STAGES if stage in stages or stage == "agreement")


def _at_least_one(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    if not devices:
        raise ValueError("without a device nothing would run")
    return devices


def _name(text: str) -> str:
    problem = name_mistake(text)
    if problem:
        raise ValueError(problem)
    return text


class Limits(BaseModel):
    """The limits of one cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_s: float = Field(default=120.0, gt=0, le=1e6, description="Wall time of a cell; beyond, its worker is killed.")
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        le=2**20,
        description="Memory of a worker for a cell; default four fifths of what the machine has left.",
    )
    sampling_s: float = Field(default=1.0, gt=0, le=1e6, description="Seconds of sampling for each cell and process.")
    min_samples: int = Field(
        default=10,
        ge=3,
        le=10**6,
        description="The gate's number of samples; on CUDA, the least before a narrow interval ends them.",
    )
    max_samples: int = Field(
        default=200, ge=3, le=10**6, description="Samples at which sampling stops, however quick they are."
    )

    @model_validator(mode="after")
    def _samples_are_in_order(self) -> Self:
        mistakes = Mistakes()
        if self.min_samples > self.max_samples:
            mistakes.add(("min_samples",), f"{self.min_samples} is more than max_samples = {self.max_samples}")
        mistakes.report()
        return self


class Scenario(BaseModel):
    """A named sweep: axes that expand to cases, which implementations, limits.

    A case takes each field from the last of these that sets it: ``defaults``, ``shapes``, ``zip``, ``axes``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_name)] = Field(description="Defaults to the file's name.")
    description: str = Field(default="", description="One sentence.")
    source: str | None = Field(
        default=None, description="Where the shapes come from; a scenario tagged 'model' must say it."
    )
    extends: str | None = Field(default=None, description="A scenario whose entries stand where this one says nothing.")
    tags: tuple[str, ...] = Field(default=(), description="Words to find it by; 'model' asks for a source.")
    implementations: tuple[Pattern, ...] = Field(
        default=(), description="Whole names, or regular expressions that are searched in names; empty is all."
    )
    exclude_implementations: tuple[Pattern, ...] = Field(default=(), description="As implementations.")
    baseline: str | None = Field(default=None, description="The implementation that speed-ups are relative to.")
    devices: Annotated[tuple[Device, ...], AfterValidator(_at_least_one)] = Field(
        default=("cpu",), description="Where cells run, unless the command line says otherwise."
    )
    ranks: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(), description="On how many ranks those implementations run that run on several; without, none runs."
    )
    stages: Annotated[tuple[StageName, ...], AfterValidator(_with_agreement)] = Field(
        default=USUAL, description="What is measured; agreement always is."
    )
    defaults: Fixed = Field(default_factory=dict, description="Fields that are the same for all cases.")
    axes: Axes = Field(default_factory=dict, description="Fields with lists of values; all combinations are cases.")
    zip: tuple[Zip, ...] = Field(default=(), description="Groups of fields whose lists advance together.")
    shapes: dict[str, Fixed] = Field(
        default_factory=dict, description="Named partial cases, combined with the axes; the name becomes a cell's tag."
    )
    exclude: tuple[Exclude, ...] = Field(default=(), description="Rules that drop cells.")
    limits: Limits = Limits()
    _own_fields: frozenset[str] = frozenset()

    def __eq__(self, other: object) -> bool:
        """Scenarios are equal if they request the same, whichever file sets it."""
        return isinstance(other, Scenario) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # its tables can be changed

    @property
    def own_fields(self) -> Collection[str]:
        """Fields that its own file may set; for a scenario that extends another, those that its file does set."""
        return NAMES if self.extends is None else self._own_fields

    def extending(self, own_fields: Iterable[str]) -> Self:
        """Return a copy that sets only these fields itself; the others come from the scenario that it extends."""
        known = self.model_copy()
        known._own_fields = frozenset(own_fields)  # noqa: SLF001 - of this class
        return known

    @model_validator(mode="after")
    def _nothing_is_said_in_vain(self) -> Self:
        mistakes = Mistakes()
        if "model" in self.tags and not self.source:
            mistakes.add(("source",), "a scenario tagged 'model' must say where its shapes come from")
        set_at: dict[str, Place] = {}
        for place in self._varying():
            for field in fields_of(str(place[-1])):
                if field in set_at:
                    mistakes.add(place, f"{written(set_at[field])} sets {field} too: one place must do it")
                set_at.setdefault(field, place)
        below: list[Place] = [("defaults", name) for name in self.defaults]
        below += [("shapes", shape, name) for shape, fields in self.shapes.items() for name in fields]
        for place in below:
            fields = fields_of(str(place[-1]))
            if all(field in set_at for field in fields):
                always = " and ".join(dict.fromkeys(written(set_at[field]) for field in fields))
                mistakes.add(place, f"no case would take it: {always} comes after")
        mistakes.report()
        return self

    def _varying(self) -> Iterable[Place]:
        """Yield the places that set a field in every case."""
        for index, group in enumerate(self.zip):
            for name in group:
                yield ("zip", index, name)
        for name in self.axes:
            yield ("axes", name)

    def excluded(self, case: Case, device: str | None = None, implementation: str | None = None) -> str | None:
        """Return why the scenario leaves a cell out, or ``None``. Rules on arguments that are ``None`` do not apply."""
        return self.excluded_fields(case.to_dict(), device, implementation)

    def excluded_fields(
        self, fields: Mapping[str, object], device: str | None = None, implementation: str | None = None
    ) -> str | None:
        """Return why a cell is left out, as :meth:`excluded`, for fields that need not make a case.

        Raises:
            ScenarioError: if matching a rule's regular expression takes too long.
        """
        for index, rule in enumerate(self.exclude):
            try:
                if rule.matches(fields, device, implementation):
                    return rule.reason or "the scenario excludes it"
            except PatternError as error:
                sentence = f"exclude[{index}].implementation: {rule.implementation!r}: {error}"
                raise ScenarioError(f"scenario {self.name!r}", [sentence]) from error
        return None

    def to_dict(self) -> Table:
        """Return the JSON-ready form that a run's header keeps."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, stored: Table) -> Scenario:
        """Rebuild a scenario from a run's header."""
        return cls.model_validate(stored)
