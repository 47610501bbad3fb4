"""A plug-in's function is called with four arguments, or with a plan as the fifth."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnbench.registry.implementation import Implementation, attention
from attnbench.registry.signature import HookError, SignatureError, takes_two, wants_plan

if TYPE_CHECKING:
    from collections.abc import Callable


def four(q: Any, k: Any, v: Any, case: Any) -> Any: ...
def five(q: Any, k: Any, v: Any, case: Any, plan: Any) -> Any: ...
def prepared(q: Any, k: Any, v: Any, case: Any, tiles: Any) -> Any: ...
def optional_plan(q: Any, k: Any, v: Any, case: Any, plan: Any = None) -> Any: ...
def tuned(q: Any, k: Any, v: Any, case: Any, block: int = 64) -> Any: ...
def tuned_plan(q: Any, k: Any, v: Any, case: Any, plan: Any, block: int = 64, *, stages: int = 2) -> Any: ...
def with_block(q: Any, k: Any, v: Any, case: Any, block: int) -> Any: ...
def whatever(*arguments: Any, **more: Any) -> Any: ...


@functools.wraps(five)
def disguised(*arguments: Any) -> Any: ...


class Module(torch.nn.Module):
    def forward(self, q: Any, k: Any, v: Any, case: Any) -> Any: ...


class PlannedModule(torch.nn.Module):
    def forward(self, q: Any, k: Any, v: Any, case: Any, plan: Any) -> Any: ...


class Callee:
    def __call__(self, q: Any, k: Any, v: Any, case: Any) -> Any: ...
    def method(self, q: Any, k: Any, v: Any, case: Any, plan: Any) -> Any: ...


@pytest.mark.parametrize(
    ("call", "plan"),
    [
        (four, False), (five, True), (prepared, True), (optional_plan, True), (tuned, False), (tuned_plan, True),
        (functools.partial(with_block, block=16), False), (functools.partial(tuned_plan, block=16), True),
        (disguised, True), (Module(), False), (PlannedModule(), True), (Callee(), False), (Callee().method, True),
        (whatever, None), (functools.partial(Module()), None), (max, None),
    ],
)  # fmt: skip
def test_a_plan_is_given_to_what_asks_for_one(call: Callable[..., Any], plan: bool | None) -> None:
    assert wants_plan(call) is plan


def keyword_only(q: Any, k: Any, v: Any, case: Any, *, block: int) -> Any: ...
def six(q: Any, k: Any, v: Any, case: Any, plan: Any, block: int) -> Any: ...


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda q, k, v: q, "not 3 parameters"),
        (functools.partial(four, None), "not 3 parameters"),
        (six, "not 6 parameters"),
        (keyword_only, "this one must be given block by name"),
        (Callee, "this is a class"),
        (3, "this is no function"),
    ],
)
def test_what_fits_neither_is_refused_with_the_reason(call: Any, why: str) -> None:
    with pytest.raises(SignatureError, match=f"must take .* {why}"):
        wants_plan(call)


def test_what_takes_anything_is_given_a_plan_where_one_is_prepared() -> None:
    plain, planned = (attention("my/kernel")(whatever) for _ in range(2))
    planned.prepare(lambda case, operands: 7)
    assert (plain.takes_plan, planned.takes_plan) == (False, True)
    assert isinstance(plain, Implementation)


def test_a_back_end_is_told_of_the_plan_where_it_asks() -> None:
    assert takes_two(lambda run, plan: "") is True
    assert takes_two(lambda run: "") is takes_two(lambda run, verbose=False: "") is False


@pytest.mark.parametrize("hook", ["supports", "available", "backend"])
@pytest.mark.parametrize("said", [True, False, 3, ["a", "b"], {}, float("nan")])
def test_a_hook_says_a_sentence_or_nothing(hook: str, said: object) -> None:
    one = attention("my/kernel")(four)
    getattr(one, hook)(lambda *_: said)
    with pytest.raises(HookError, match=f"its hook '{hook}' returned .*, which is neither a string nor None"):
        getattr(one, f"{hook}_hook")("run")


def test_a_hooks_sentence_is_one_line_without_what_acts_on_a_terminal() -> None:
    one = attention("my/kernel")(four)
    one.supports(lambda case, device: "two\nlines\x1b[2J")
    assert one.supports_hook is not None
    assert one.supports_hook(None, "cpu") == r"two\nlines\x1b[2J"  # type: ignore[arg-type]  # it does not look
