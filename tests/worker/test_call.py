"""Binding an implementation to a case."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attnbench import attention, make_case
from attnbench.transport.message import Failure
from attnbench.worker.call import bind
from attnbench.worker.session import UnsupportedError
from attnbench.worker.tensors import place
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
    """Torch gives up after eight shapes of a function that is compiled as its module is imported."""

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
