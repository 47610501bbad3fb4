"""Unusual calls are captured, or reported as unmatched with the reason; none is missed."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention as taken_earlier

import attnbench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Q = torch.randn(2, 4, 8, 16)
NO_VALUES = Q.to("meta")
QKV = torch.randn(2, 8, 3, 4, 16).permute(2, 0, 3, 1, 4)
BOUND = functools.partial(functional.scaled_dot_product_attention, is_causal=True)


def in_a_thread() -> None:
    thread = threading.Thread(target=lambda: functional.scaled_dot_product_attention(Q, Q, Q))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "attend",
    [
        lambda: taken_earlier(Q, Q, Q),
        lambda: BOUND(Q, Q, Q),
        lambda: functional.scaled_dot_product_attention(Q, Q[:, :2], Q[:, :2], enable_gqa=True),
        lambda: functional.scaled_dot_product_attention(query=Q, value=Q, key=2 * Q),
        lambda: functional.scaled_dot_product_attention(Q, Q, Q, torch.rand(1, 1, 8, 8) > 0.3),
        lambda: functional.scaled_dot_product_attention(QKV[0], QKV[1], QKV[2]),
        in_a_thread,
    ],
)
def test_it_is_seen_and_replaced(tmp_path: Path, attend: Callable[[], object]) -> None:
    with attnbench.capture(tmp_path / "out") as captured:
        attend()
    assert [call.calls for call in captured.capture.calls] == [1], captured.capture.unmatched
    for _ in range(2):
        with attnbench.use("naive/torch") as used:
            attend()
        assert (used.calls, dict(used.fallbacks)) == (1, {})


@pytest.mark.parametrize(
    ("attend", "reason"),
    [
        (lambda: torch.ops.aten.scaled_dot_product_attention(Q, Q, Q), "torch's own operators are not followed"),
        (
            lambda: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(Q, Q, Q),
            "torch's own operators are not followed",
        ),
        (
            lambda: torch.vmap(lambda x: functional.scaled_dot_product_attention(x, x, x))(Q[None]),
            "it runs within vmap, whose batch is not seen from within",
        ),
        (
            lambda: functional.scaled_dot_product_attention(NO_VALUES, NO_VALUES, NO_VALUES),
            "its tensors are nested, or have no values",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_it_is_told_with_its_reason(tmp_path: Path, attend: Callable[[], object], reason: str) -> None:
    with attnbench.capture(tmp_path / "out") as captured:
        attend()
    (told,) = captured.capture.unmatched
    assert (told.calls, captured.capture.calls) == (1, ())
    assert reason in told.reason
    with attnbench.use("naive/torch") as used:
        attend()
    assert (used.calls, sum(used.fallbacks.values())) == (0, 1)


def test_a_thread_that_outlives_the_block_goes_on_as_if_there_were_none() -> None:
    may_go_on, found = threading.Event(), []

    def attend() -> None:
        found.append(functional.scaled_dot_product_attention(Q, Q, Q))
        may_go_on.wait()
        found.append(functional.scaled_dot_product_attention(Q, Q, Q))

    thread = threading.Thread(target=attend)
    with attnbench.use("naive/torch") as used:
        thread.start()
        while not found:
            pass
    may_go_on.set()
    thread.join()
    assert (len(found), used.calls) == (2, 1)
    assert threading.Thread.start.__module__ == "threading"


def test_what_an_implementation_computes_is_none_of_the_models(tmp_path: Path) -> None:
    """Checking whether an implementation can run calls attention, too."""
    with attnbench.capture(tmp_path / "out") as captured, attnbench.use("torch/sdpa-flash") as used:
        functional.scaled_dot_product_attention(Q, Q, Q)
    assert used.calls == 1
    assert (captured.capture.calls, captured.capture.unmatched) == ((), ())
