"""Which sources belong to an implementation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.profiling.recording import shown_path, sources_of

if TYPE_CHECKING:
    from pathlib import Path


def plain(q: Any) -> Any:
    """A function."""
    return q


@functools.wraps(plain)
def wrapped(q: Any) -> Any:
    """Another one, around it."""
    return plain(q)


class Instance:
    """A class with callable instances."""

    def __call__(self, q: Any) -> Any:
        return q


@pytest.mark.parametrize(
    "call", [plain, wrapped, functools.partial(functools.partial(plain)), Instance(), lambda q: q, Instance().__call__]
)
def test_the_sources_of_whatever_can_be_called_are_those_of_its_module(call: Any) -> None:
    assert __file__ in sources_of(call)


def test_paths_are_shown_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(str(tmp_path / "mine" / "kernel.py")) == "mine/kernel.py"
    assert shown_path("/elsewhere/kernel.py") == "/elsewhere/kernel.py"
