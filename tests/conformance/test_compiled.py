"""Implementations that torch compiles for each case."""

from __future__ import annotations

import pytest

from tests.conformance.judged import COMPILED, FEWER_CASES, Records, check, require_agreement, require_every_feature
from tests.conftest import Command


@pytest.fixture(scope="module")
def records(module_attnbench: Command) -> Records:
    return check(module_attnbench, FEWER_CASES, COMPILED)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMPILED)
def test_it_agrees_with_the_oracle_on_each_feature_that_it_declares(name: str, records: Records) -> None:
    require_agreement(records[name])


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMPILED)
def test_fewer_cases_hold_every_feature_that_it_declares(name: str, records: Records) -> None:
    require_every_feature(name, records[name])
