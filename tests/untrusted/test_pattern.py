from __future__ import annotations

import contextlib

import pytest

from attnbench.untrusted.pattern import PatternError, found_in, pattern_mistake


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("torch", True), ("^torch/sdpa$", True), ("math$", False), (r"(?<=/)sd\w+", True), ("^(?!naive/)", True)],
)
def test_an_expression_means_what_it_means_in_python(pattern: str, found: bool) -> None:
    assert found_in(pattern, "torch/sdpa") is found


def test_an_expression_that_never_ends_is_refused() -> None:
    with pytest.raises(PatternError, match="takes too long"):
        found_in("(a|aa)+$X", "family/" + 90 * "a")


@pytest.mark.parametrize(
    "pattern", ["(((([a-z/-]+)+)+)+)+$X", 10 * "(.*)" + "X$", r"(\w|\w\w|-)*?(a|aa)*!", 99 * "a?" + 99 * "a"]
)
def test_whatever_an_expression_says_its_search_ends(pattern: str) -> None:
    with contextlib.suppress(PatternError):
        found_in(pattern, "family/" + 90 * "a")


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "(" * 5000 + ")" * 4999, "x{99999999999999999999}", "x" * 1001])
def test_what_is_no_expression_is_refused(pattern: str) -> None:
    assert pattern_mistake(pattern)
