"""Sentences above an answer, on noise that its intervals do not include."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from attnbench.cases.case import make_case
from attnbench.views.answer.noise import noise_sentences
from attnbench.views.cells import cells_of
from attnbench.views.document import Paragraph
from attnbench.views.show import answer
from tests.views.conftest import timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile

CASE = make_case(seqlen_q=128)
FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"


def said(run: RunFile) -> list[str]:
    return noise_sentences(run, cells_of(run))


def test_one_back_end_under_two_names_is_an_a_a_test(run_of: Callable[..., RunFile]) -> None:
    equal = [timed(CASE, "torch/sdpa", 1e6, backend=FLASH), timed(CASE, "torch/flash", 1.005e6, backend=FLASH)]
    assert said(run_of(equal)) == []
    unlike = [*equal[:1], timed(CASE, "torch/flash", 1.5e6, backend=FLASH), timed(CASE, "a/a", 9e6, backend="x")]
    (sentence,) = said(run_of(unlike))
    assert sentence.startswith("torch/sdpa and torch/flash ran the same back end and differ by up to 1.50")
    assert "(in 1 of 1 such pair)" in sentence
    first = answer(run_of(unlike)).blocks[0]
    assert isinstance(first, Paragraph)
    assert first.text == sentence


def test_what_is_unfused_is_not_the_same(run_of: Callable[..., RunFile]) -> None:
    none = "unfused: no attention operator was dispatched"
    lines = [timed(CASE, "a/a", 1e6, backend=none), timed(CASE, "b/b", 3e6, backend=none)]
    assert said(run_of(lines)) == []


@pytest.mark.parametrize(
    ("header", "record", "words"),
    [
        ({"load_average": [3.0, 1.0, 1.0], "cpu_usable": [0, 1]}, {}, "Other work is running: the load was 3.0"),
        (
            {"load_average": [0.2, 1.0, 1.0], "cpu_usable": [0, 1]},
            {"steal_share": 0.2},
            "gave up to 20.0 % of the",
        ),
    ],
    ids=["load", "steal"],
)
def test_other_work_is_told(
    run_of: Callable[..., RunFile], header: dict[str, Any], record: dict[str, Any], words: str
) -> None:
    run = run_of([timed(CASE, "a/a", 1e6, **record)], environment=header)
    (sentence,) = said(run)
    assert words in sentence
