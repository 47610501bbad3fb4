"""Which sources are an implementation's."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from attnbench.profiling.recording import sources_of


def plain(q: Any) -> Any:
    """A function."""
    return q


@functools.wraps(plain)
def wrapped(q: Any) -> Any:
    """Another one, around it."""
    return plain(q)


class Instance:
    """One that can be called."""

    def __call__(self, q: Any) -> Any:
        return q


@pytest.mark.parametrize(
    "call", [plain, wrapped, functools.partial(functools.partial(plain)), Instance(), lambda q: q, Instance().__call__]
)
def test_the_sources_of_whatever_can_be_called_are_those_of_its_module(call: Any) -> None:
    assert __file__ in sources_of(call)
