"""Binding an implementation to a case."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from attnbench import attention, make_case
from attnbench.transport.message import Failure
from attnbench.worker.call import bind
from attnbench.worker.session import UnsupportedError
from attnbench.worker.tensors import as_array, place
from attnbench.worker.worker import Worker


def test_behind_projections_prepare_sees_tensors_like_those_of_the_calls() -> None:
    seen: dict[str, list[tuple[Any, ...]]] = {}

    def described(*tensors: Any) -> list[tuple[Any, ...]]:
        return [(tuple(x.shape), x.stride(), x.dtype) for x in tensors]

    @attention("mine/core", dtypes=["float32"], gqa=True)
    def core(q: Any, k: Any, v: Any, case: Any, plan: Any) -> Any:
        seen["call"] = described(q, k, v)
        return q

    @core.prepare
    def prepare(case: Any, operands: Any) -> None:
        seen["prepare"] = described(operands.q, operands.k, operands.v)

    case = make_case(operator="multi_head_attention", heads_q=4, heads_kv=2, seqlen_q=9, head_dim=8)
    bind(core, case, place(case, core.declaration, "cpu")).run()
    assert seen["prepare"] == seen["call"]
    assert seen["call"][1][0] == (1, 2, 9, 8)


def test_each_case_is_compiled_though_one_function_serves_all_of_them() -> None:
    """Torch gives up after eight shapes of a function that was compiled at import."""

    @torch.compile(dynamic=False, backend="eager")
    def compiled(q: Any, k: Any, v: Any) -> Any:
        if not torch.compiler.is_compiling():
            raise AssertionError("it runs uncompiled")
        return (q @ k.mT).softmax(-1) @ v

    @attention("mine/compiled", dtypes=["float32"])
    def attend(q: Any, k: Any, v: Any, case: Any) -> Any:
        return compiled(q, k, v)

    for seqlen in range(2, 14):
        case = make_case(heads_q=1, seqlen_q=seqlen, head_dim=8)
        bind(attend, case, place(case, attend.declaration, "cpu")).run()


@pytest.mark.parametrize("framework", ["torch", "numpy"])
@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("strides", ["contiguous", "transposed", "summed"])
def test_a_forward_pass_that_is_not_timed_does_not_see_the_upstream_gradient(
    framework: Literal["torch", "numpy"], strides: str, *, explicit: bool
) -> None:
    """Otherwise it could compute the gradients, and the timed backward pass would only return them."""
    if framework == "numpy" and not explicit:
        pytest.skip("NumPy has no autograd")
    seen: list[Any] = []

    @attention("mine/early", dtypes=["float32"], modes=["backward"], framework=framework, strides=[strides])
    def early(q: Any, k: Any, v: Any, case: Any, plan: Any) -> Any:
        seen.append(as_array(plan.dout).copy())
        return q * 1.0

    @early.prepare
    def prepare(case: Any, operands: Any) -> Any:
        return operands

    case = make_case(mode="backward", strides=strides, heads_q=2, seqlen_q=5, head_dim=8)
    if explicit:

        @early.backward
        def backward(dout: Any, q: Any, k: Any, v: Any, *others: Any) -> Any:
            seen.append(as_array(dout).copy())
            return dout * 1.0, k, v

    operands = place(case, early.declaration, "cpu")
    before = as_array(operands.dout).copy()
    call = bind(early, case, operands)
    call.set_up()
    assert np.isnan(seen[0]).all()
    if explicit:
        call.run()
        assert (seen[1] == before).all()
    assert (as_array(operands.dout) == before).all()
    assert not np.isnan(before).any()


class UnreadableError(RuntimeError):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (RuntimeError("a \ud800 and a \0"), "RuntimeError: a \\ud800 and a \\0"),
        (UnreadableError(), "UnreadableError: its message cannot be read: ValueError"),
        (UnsupportedError("\ud800"), "\\ud800"),
    ],
)
def test_what_is_raised_is_told_whatever_its_message_is(raised: Exception, words: str) -> None:
    def serve(_worker: Worker) -> None:
        raise raised

    request: Any = SimpleNamespace(serve=serve, fails_as="error")
    answer = Worker(owns_process=False).answer(request)
    assert isinstance(answer, Failure)
    assert answer.reason.startswith(words)
    answer.model_dump_json()
