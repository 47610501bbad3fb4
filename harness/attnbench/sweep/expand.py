"""From a scenario to its cases."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

from attnbench.cases.case import Case, CaseError, make_case
from attnbench.sweep.fields import SHORTHANDS, expand_shorthand, parse_value, parse_values, unknown_field
from attnbench.sweep.model import Scenario, ScenarioError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Partial = dict[str, object]


@dataclasses.dataclass(frozen=True)
class PlannedCase:
    """A case of a scenario, and the names of the shapes it came from."""

    case: Case
    tags: tuple[str, ...]


def adhoc() -> Scenario:
    """The scenario of a command that names none: one default case, which axes on the line can change."""
    return Scenario(name="case", description="A single case from the command line.")


def parse_overrides(texts: Sequence[str]) -> dict[str, list[str]]:
    """``["seqlen=128,1k", "dtype=bfloat16"]`` to values by field.

    Raises:
        ScenarioError: with every mistake.
    """
    overrides: dict[str, list[str]] = {}
    problems = []
    for text in texts:
        name, separator, values = text.partition("=")
        problem = unknown_field(name) if separator else f"{text!r} is not of the form NAME=VALUE"
        if problem:
            problems.append(problem)
            continue
        parts = [values] if values.startswith("file:") else values.split(",")
        for part in parts:
            try:
                parse_values(name, part)
            except ValueError as error:
                problems.append(f"{name}: {error}")
        overrides.setdefault(name, []).extend(parts)
    if problems:
        raise ScenarioError("axis", problems)
    return overrides


def expand(scenario: Scenario, overrides: Mapping[str, list[str]]) -> list[PlannedCase]:
    """All cases of a scenario, each once, in the order of its axes.

    Args:
        scenario: the sweep.
        overrides: values from the command line; they stand in place of the scenario's for the same field.

    Raises:
        ScenarioError: when a combination that no rule excludes makes no possible case.
    """
    planned: dict[str, PlannedCase] = {}
    problems: dict[str, None] = {}
    for fields, tags in _combinations(scenario, overrides):
        try:
            case = make_case(**fields)
        except CaseError as error:
            shown = ", ".join(f"{name}={value}" for name, value in fields.items())
            for problem in error.problems:
                problems.setdefault(f"{problem} (in {shown})")
            continue
        if scenario.excluded(case) is None:
            before = planned.get(case.case_id)
            all_tags = tuple(dict.fromkeys((*(before.tags if before else ()), *tags)))
            planned[case.case_id] = PlannedCase(case, all_tags)
    if problems:
        shown_problems = list(problems)
        rest = [f"and {len(problems) - 10} more of this kind"] if len(problems) > 10 else []
        raise ScenarioError(f"scenario {scenario.name!r}", shown_problems[:10] + rest)
    return list(planned.values())


def _combinations(scenario: Scenario, overrides: Mapping[str, list[str]]) -> Iterator[tuple[Partial, tuple[str, ...]]]:
    """Every combination of shapes, groups and axes, the defaults below and the overrides on top."""
    replaced = {field for name in overrides for field in SHORTHANDS.get(name, (name,))}
    factors: list[list[tuple[Partial, tuple[str, ...]]]] = [
        [(_fixed(shape, replaced), (name,)) for name, shape in scenario.shapes.items()] or [({}, ())]
    ]
    for group in scenario.zip:
        rows = [dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)]
        factors.append([(_fixed(row, replaced), ()) for row in rows])
    for name, values in scenario.axes.items():
        if set(SHORTHANDS.get(name, (name,))) <= replaced:
            continue
        factors.append([(_without(expand_shorthand(name, value), replaced), ()) for value in _axis(name, values)])
    for name, texts in overrides.items():
        factors.append([(expand_shorthand(name, value), ()) for value in _axis(name, texts)])
    base = _fixed(scenario.defaults, replaced)
    for combination in itertools.product(*factors):
        fields = dict(base)
        for part, _ in combination:
            fields |= part
        yield fields, tuple(tag for _, tags in combination for tag in tags)


def _axis(name: str, values: Any) -> list[object]:
    return [parsed for value in (values if isinstance(values, list) else [values]) for parsed in parse_values(name, value)]


def _fixed(table: Mapping[str, Any], replaced: set[str]) -> Partial:
    """A table of single values, its shorthands expanded, without what the command line replaces."""
    fields: Partial = {}
    for name, value in table.items():
        fields |= expand_shorthand(name, parse_value(name, value))
    return _without(fields, replaced)


def _without(fields: Partial, replaced: set[str]) -> Partial:
    return {name: value for name, value in fields.items() if name not in replaced}
