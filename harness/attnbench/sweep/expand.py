"""Expands a scenario to its cases."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.cases.case import DEFAULTS, Case, CaseError, make_case
from attnbench.cases.choices import FOLLOWS
from attnbench.cases.tensors.errors import TensorError
from attnbench.cases.tensors.source import without_digest
from attnbench.sweep.effect import DECIDING, Effects
from attnbench.sweep.fields import (
    NAMES,
    SHORTHANDS,
    expand_shorthands,
    parse_value,
    parse_values,
)
from attnbench.sweep.files.paths import anchored, file_in
from attnbench.sweep.files.settled import with_files
from attnbench.sweep.model import Scenario, ScenarioError
from attnbench.sweep.nearest import unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Fields = dict[str, object]

MOST_COMBINATIONS = 50_000
"""Planning this many takes seconds; measuring a hundredth of them takes days."""
_SHOWN = 10
_LONGEST_VALUE = 200
"""Longest text of a value in a message."""
_LINE = "--axis"


@dataclasses.dataclass(frozen=True)
class PlannedCase:
    """A case of a scenario."""

    case: Case
    tags: tuple[str, ...]
    """Names of the shapes that it came from."""
    said: frozenset[str] = frozenset()
    """Fields that were set rather than left at their default."""


@dataclasses.dataclass(frozen=True)
class _Part:
    """One value of a factor of the product: the place that sets it, its fields, and its tag."""

    place: str
    fields: Fields
    tags: tuple[str, ...] = ()


def adhoc() -> Scenario:
    """Return the scenario of a command without one: a default case, which the command line's axes can change."""
    return Scenario(name="case", description="A single case from the command line.")


def parse_overrides(texts: Sequence[str]) -> dict[str, list[str]]:
    """Parse ``["seqlen=128,1k", "dtype=bfloat16"]`` to values by field.

    Raises:
        ScenarioError: if any is malformed; lists every mistake.
    """
    overrides: dict[str, list[str]] = {}
    problems = []
    for text in texts:
        name, separator, values = text.partition("=")
        if not separator:
            problems.append(f"{text!r} is not of the form NAME=VALUE[,VALUE...]")
            continue
        if name not in NAMES:
            problems.append(f"{name}: {unknown('field', name, NAMES)}")
            continue
        parts = [values] if file_in(name, values) else values.split(",")
        for part in parts:
            try:
                parse_values(name, part)
            except ValueError as error:
                problems.append(f"{name}: {error}")
        overrides.setdefault(name, []).extend(str(anchored(name, part, Path())) for part in parts)
    if problems:
        raise ScenarioError(_LINE, problems)
    return overrides


def expand(scenario: Scenario, overrides: Mapping[str, list[str]]) -> list[PlannedCase]:
    """Return all cases of a scenario, each once, in the order of its shapes, groups and axes.

    ``overrides`` are the command line's values; they replace the scenario's values of the same field.

    Raises:
        ScenarioError: if a combination that no rule excludes is not a possible case, or no case uses a field that is
            set.
    """
    effects = Effects()
    planned: dict[str, PlannedCase] = {}
    impossible: dict[str, list[Fields]] = {}
    for fields, places, tags in _combinations(scenario, overrides):
        try:
            case = make_case(**with_files(fields))
        except (CaseError, TensorError) as error:
            if scenario.excluded_fields(_filled(fields)) is None:
                for problem in error.problems if isinstance(error, CaseError) else [str(error)]:
                    found = impossible.setdefault(problem, [])
                    if fields not in found:
                        found.append(fields)
            continue
        effects.saw(case, fields, places)
        if scenario.excluded(case) is None:
            before = planned.get(case.case_id)
            all_tags = tuple(dict.fromkeys((*(before.tags if before else ()), *tags)))
            planned[case.case_id] = PlannedCase(case, all_tags, frozenset(fields))
    if impossible:
        raise ScenarioError(f"scenario {scenario.name!r}", _described(impossible))
    _refuse_what_has_no_effect(effects, scenario, overrides)
    return list(planned.values())


def _refuse_what_has_no_effect(effects: Effects, scenario: Scenario, overrides: Mapping[str, list[str]]) -> None:
    """Raise for unused fields of the command line, and of the scenario itself if its file determines the cases."""
    if of_line := effects.in_vain(NAMES).get(_LINE):
        raise ScenarioError(_LINE, of_line)
    in_vain = effects.in_vain(scenario.own_fields)
    if in_vain and not DECIDING & overrides.keys():
        sentences = [f"{place}: {sentence}" for place, found in in_vain.items() for sentence in found]
        raise ScenarioError(f"scenario {scenario.name!r}", sentences)


def _combinations(
    scenario: Scenario, overrides: Mapping[str, list[str]]
) -> Iterator[tuple[Fields, dict[str, str], tuple[str, ...]]]:
    """Yield every combination of shapes, groups and axes, over the defaults and below the overrides.

    Yields:
        The fields, the place that set each of them, and the names of shapes, except one whose fields were overridden.

    Raises:
        ScenarioError: if there are too many combinations.
    """
    factors: list[list[_Part]] = []
    if scenario.shapes:
        factors.append([_Part(f"shapes.{name}", _fields(shape), (name,)) for name, shape in scenario.shapes.items()])
    for index, group in enumerate(scenario.zip):
        rows = zip(*group.values(), strict=True)
        factors.append([_Part(f"zip[{index}]", _fields(dict(zip(group, row, strict=True)))) for row in rows])
    factors += [
        [_Part("axes", _fields({name: value})) for value in _axis(name, values)]
        for name, values in scenario.axes.items()
    ]
    # Shorthands first, so that heads=8 and heads_kv=2 mean the same in either order; a batch may set still more fields.
    for name in sorted(overrides, key=lambda name: (name not in ("batch", "requests"), name not in SHORTHANDS)):
        factors.append([_Part(_LINE, expand_shorthands({name: value})) for value in _axis(name, overrides[name])])
    count = math.prod(len(factor) for factor in factors)
    if count > MOST_COMBINATIONS:
        sentence = f"its shapes, groups and axes make {count:,} combinations, and {MOST_COMBINATIONS:,} are the most"
        raise ScenarioError(f"scenario {scenario.name!r}", [sentence])
    base = _fields(scenario.defaults)
    for combination in itertools.product(*factors):
        fields, places = dict(base), dict.fromkeys(base, "defaults")
        for part in combination:
            fields |= part.fields
            places |= dict.fromkeys(part.fields, part.place)
        kept = (part for part in combination if all(fields[name] == value for name, value in part.fields.items()))
        yield fields, places, tuple(tag for part in kept for tag in part.tags)


def _fields(table: Mapping[str, object]) -> Fields:
    """Parse a table of single values to fields of a case."""
    return expand_shorthands({name: parse_value(name, value) for name, value in table.items()})


def _axis(name: str, values: Any) -> list[object]:
    return [
        parsed for value in (values if isinstance(values, list) else [values]) for parsed in parse_values(name, value)
    ]


def _filled(fields: Fields) -> Fields:
    """Complete fields that make no case with the defaults that a rule may refer to."""
    filled = DEFAULTS | fields
    for name, other in FOLLOWS.items():
        filled[name] = filled[other] if filled[name] is None else filled[name]
    return filled


def _described(impossible: Mapping[str, list[Fields]]) -> list[str]:
    """Return a sentence per mistake, with the first combination that makes it."""
    described = []
    for problem, combinations in list(impossible.items())[:_SHOWN]:
        shown = ", ".join(f"{name}={_cut(without_digest(str(value)))}" for name, value in combinations[0].items())
        more = len(combinations) - 1
        also = f"; {more} more combination{'s' if more > 1 else ''} too" if more else ""
        described.append(f"{problem} (in {shown or 'the default case'}{also})")
    if len(impossible) > _SHOWN:
        described.append(f"and {len(impossible) - _SHOWN} more mistakes of this kind")
    return described


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
