"""Implementations that take a fraction of a second for each case of ``edge-shapes``; the registry as a whole."""

from __future__ import annotations

import pytest

from attnbench.registry.discover import bundled
from tests.conformance.judged import (
    EVERY_CASE,
    KNOWN_TO_BE_WRONG,
    MANY,
    QUICK,
    Records,
    check,
    is_known_to_be_wrong,
    require_agreement,
)
from tests.conftest import Command


@pytest.fixture(scope="module")
def records(module_attnbench: Command) -> Records:
    return check(module_attnbench, EVERY_CASE, QUICK)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", QUICK)
def test_it_agrees_with_the_oracle_on_everything_that_it_declares(name: str, records: Records) -> None:
    require_agreement(records[name])


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("gradient", MANY)
@pytest.mark.parametrize("name", KNOWN_TO_BE_WRONG)
def test_what_is_known_to_be_wrong_still_is(name: str, gradient: str, records: Records) -> None:
    """If not: take it out of ``known-disagreements.md``."""
    field, tokens = MANY[gradient]
    assert any(is_known_to_be_wrong(one) for one in records[name] if one[field] == tokens)


def test_everything_that_is_unavailable_says_why() -> None:
    silent = [one.name for one in bundled() if one.unavailable is not None and len(one.unavailable) < 10]
    assert not silent


def test_the_registry_holds_every_family() -> None:
    names = {one.name for one in bundled()}
    promised = {
        *("naive/numpy", "naive/torch", "naive/torch-compile", "chunked/torch", "numba/flash", "triton/flash"),
        *("torch/sdpa", "torch/sdpa-math", "torch/sdpa-flash", "torch/sdpa-efficient", "torch/sdpa-cudnn"),
        *("torch/flex", "torch/multihead-attention"),
        *("xformers/auto", "xformers/cutlass", "xformers/flash", "xformers/splitk"),
        *(
            "flash-attn/4",
            "flash-attn/3-fwd",
            "cudnn/frontend",
            "sage/triton",
            "flashinfer/prefill",
            "flashinfer/decode",
        ),
        *("torch/varlen", "jax/cudnn", "jax/xla"),
    }
    assert promised <= names, promised - names
