"""Fixtures that write scenario files for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.sweep.load import load_scenario
from attnbench.sweep.model import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attnbench.sweep.model import Scenario


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a scenario file and returns its path."""

    def write_file(text: str, name: str = "mine.toml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write_file


@pytest.fixture
def scenario(write: Callable[..., str]) -> Callable[[str], Scenario]:
    """Return a function that loads a scenario from its text."""
    return lambda text: load_scenario(write(text))


@pytest.fixture
def problems(write: Callable[..., str]) -> Callable[[str], list[str]]:
    """Return a function that returns the mistakes in a scenario's text."""

    def mistakes(text: str) -> list[str]:
        with pytest.raises(ScenarioError) as caught:
            load_scenario(write(text))
        return caught.value.problems

    return mistakes
