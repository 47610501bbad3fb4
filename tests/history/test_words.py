"""Functions of a history and commands have the same words and the same defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from attnbench.api import history
from attnbench.cli.main import app


def defaults(function: Callable[..., object], without: set[str]) -> list[tuple[str, object]]:
    parameters = inspect.signature(function).parameters.values()
    return [(one.name, one.default) for one in parameters if one.name not in without]


@pytest.mark.parametrize("name", history.__all__)
def test_a_function_and_its_command_take_the_same_words(name: str) -> None:
    command = app["history"][name].default_command
    assert command is not None
    assert defaults(getattr(history, name), {"progress"}) == defaults(command, {"form"})
