"""Hostile scenario files are refused with a sentence, and quickly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attnbench.cases.case import CaseError, make_case
from attnbench.sweep.expand import expand, parse_overrides
from attnbench.sweep.load import load_scenario
from attnbench.sweep.model import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.sweep.model import Scenario
from tests.odd_files import make_odd

DIGITS = "9" * 400

HOSTILE = {
    "a scale": (f"defaults.scale = {DIGITS}", "defaults.scale: 999.* is not a number > 0"),
    "a softcap": (f"defaults.softcap = {DIGITS}", "defaults.softcap: 999.* is not a number > 0"),
    "a length": (f"defaults.seqlen = {DIGITS}", "defaults.seqlen: seqlen is larger than 1,099,511,627,776"),
    "heads": (f"axes.heads = [{DIGITS}]", r"axes.heads\[0\]: heads is larger than"),
    "a window": (f"shapes.a.window_left = {DIGITS}", "shapes.a.window_left: window_left is larger than"),
    "a length among others": (f"defaults.kv_lengths = [1, {DIGITS}]", "defaults.kv_lengths: kv_lengths is larger than"),
    "a length as text": (f'defaults.seqlen = "{DIGITS}"', "defaults.seqlen: '999.* is not an integer"),
    "a range": (f'axes.seqlen = "1..{DIGITS}"', r"axes.seqlen: '1\.\.999.* is not an integer"),
    "thousands of digits": (f"defaults.heads = {DIGITS * 20}", "it is not TOML: it holds an integer of thousands"),
    "thousands of hexadecimal digits": (f"defaults.heads = 0x{'f' * 9000}", "defaults.heads: heads is larger than"),
    "such a number elsewhere": (f"description = 0x{'f' * 9000}", "description: this int is not a text in quotes"),
    "a batch": ("defaults.batch = 200_000_000", "defaults.batch: batch is larger than 1,048,576"),
    "nested lists": (f"x = {'[' * 5000}{']' * 5000}", "it is not TOML: its brackets are nested too deeply"),
    "nested tables": (f"x = {'{a=' * 5000}1{'}' * 5000}", "it is not TOML: its brackets are nested too deeply"),
    "nested names": (f"[defaults.mask.{'a.' * 5000}a]", "defaults.mask: this dict is none of none, causal"),
    "no memory limit": ("limits.memory_gib = inf", "limits.memory_gib: inf: it must be less than or equal to 1048576"),
    "an endless cell": ("limits.time_s = inf", "limits.time_s: inf: it must be less than"),
    "endless sampling": ("limits.sampling_s = 1e300", r"limits.sampling_s: 1e\+300: it must be less than"),
    "many samples": ("limits.max_samples = 1000000000000", "limits.max_samples: 1000000000000: it must be less than"),
    "a folder as name": ('name = "/evil"', "name: '/evil': a name must not contain slashes"),
    "a folder above as name": (r'name = "..\\evil"', r"name: '\.\.\\\\evil': a name must not contain slashes"),
    "a null in the name": (r'name = "a\u0000b"', r"name: 'a\\x00b': a name must not contain slashes"),
    "a command for terminals": (r'name = "a\u001b[2J"', r"name: 'a\\x1b\[2J': a name must not contain slashes"),
    "text that turns": (r'name = "a\u202eb"', r"name: 'a\\u202eb': a name must not contain slashes"),
    "a hidden file": ('name = ".profile"', "name: '.profile': a name does not begin with a dot"),
    "no name": ('name = " "', "name: ' ': it has no character that shows"),
    "a long name": (f'name = "{"x" * 5000}"', r"name: 'xxx.*\.\.\.: it is longer than 100 bytes"),
    "a null in the base": (r'extends = "a\u0000b"', "extends: .*no scenario has this name"),
    "a null in the base's path": (r'extends = "a\u0000b.toml"', "extends: .*it cannot be read"),
    "an endless expression": (f'implementations = ["{"(a|aa)+" * 200}"]', r"implementations\[0\]: .*1,400 characters"),
}


@pytest.mark.parametrize(("text", "sentence"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_with_its_place(
    problems: Callable[[str], list[str]], text: str, sentence: str
) -> None:
    (problem,) = problems(text)
    assert re.match(sentence, problem.split("mine.toml: ")[-1])
    assert len(problem) < 1000


def test_an_expression_that_takes_too_long_is_refused_when_it_is_looked_for(write: Callable[..., str]) -> None:
    scenario = load_scenario(write("exclude = [{implementation = '(a|aa)+$X'}]"))
    with pytest.raises(ScenarioError, match=r"exclude\[0\].implementation: .* takes too long"):
        scenario.excluded(make_case(), implementation="family/" + "a" * 90)


@pytest.mark.parametrize("text", [f"scale={DIGITS}", f"seqlen={DIGITS * 20}", "batch=200000000", f"seed={DIGITS}"])
def test_so_is_a_value_on_the_command_line(text: str) -> None:
    with pytest.raises(ScenarioError, match=text.partition("=")[0]):
        parse_overrides([text])


@pytest.mark.parametrize(
    "field", [{"scale": 10**400}, {"seqlen_q": 2**41}, {"batch": 2**21}, {"kv_lengths": [2**50]}, {"seed": 2**63}]
)
def test_so_is_a_field_of_a_case(field: dict[str, object]) -> None:
    with pytest.raises(CaseError, match=next(iter(field))):
        make_case(**field)


def test_the_largest_values_make_a_case(write: Callable[..., str]) -> None:
    largest = {"seqlen": "1048576m", "batch": 2**20, "heads": "1048576m", "seed": 2**63 - 1}
    (planned,) = expand(
        load_scenario(write("")), parse_overrides([f"{name}={value}" for name, value in largest.items()])
    )
    assert planned.case.seqlen_q == 2**40


def test_combinations_are_counted_before_they_are_made(scenario: Callable[[str], Scenario]) -> None:
    axes = {name: list(range(1, 2000)) for name in ("seqlen", "heads", "head_dim")}
    loaded = scenario("".join(f"axes.{name} = {values}\n" for name, values in axes.items()))
    with pytest.raises(ScenarioError, match="make 7,988,005,999 combinations, and 50,000 are the most"):
        expand(loaded, {})


@pytest.mark.parametrize("made", ["fifo", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, made: str) -> None:
    path = tmp_path / "a.toml"
    make_odd(made, path)
    with pytest.raises(ScenarioError, match="it cannot be read: it is not a regular file"):
        load_scenario(str(path))


def test_of_many_mistakes_the_first_are_told() -> None:
    told = str(ScenarioError("a.toml", [f"mistake {number}" for number in range(1, 1_001)]))
    assert told.startswith("a.toml has 1000 mistakes:\n  mistake 1\n")
    assert told.endswith("  mistake 20\n  and 980 more")
