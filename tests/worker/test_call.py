"""Binding an implementation to a case."""

from __future__ import annotations

from typing import Any

from attnbench import attention, make_case
from attnbench.worker.call import bind
from attnbench.worker.tensors import place


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
