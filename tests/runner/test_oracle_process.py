"""The oracle's process, as the runner starts it."""

from __future__ import annotations

import sys

import pytest

from attnbench.runner.oracle import Oracle, OracleGoneError


def test_an_oracle_that_cannot_be_started_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OracleGoneError, match="the oracle cannot be started: /nowhere/python: No such file"):
        Oracle(1, {"PATH": "/unlike/any/other"}).wait()
