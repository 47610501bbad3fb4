"""Implementations with projections, compared with the definition between float64 projections."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from attnbench import Case, Implementation, Operands, make_case
from tests.implementations.conftest import ALLOWED, check_dtypes, implementation, rounded, tensor
from tests.implementations.definition import Answer, Inputs, attention_by_definition

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMPY = implementation("naive_numpy", "naive/numpy-multi-head")
TORCH = implementation("pytorch.multihead", "torch/multihead-attention")

DIFFERENCES: list[dict[str, Any]] = [
    *({"dtype": dtype} for dtype in ("float64", "float16", "bfloat16")),
    {"mask": "causal"},
    {"mask": "sliding_window", "window_left": 3, "window_right": 2},
    {"mask": "prefix_lm", "prefix_len": 5},
    {"mask": "document", "document_lengths": (2, 7, 4)},
    {"mask": "document", "document_lengths": (2, 7, 4), "document_causal": True},
    {"mask": "key_padding", "kv_lengths": (0, 9)},
    {"mask": "tree", "tree_parents": (-1, 0, 0, 1, 2, -1)},
    {"mask": "sliding_window & key_padding", "window_left": 3, "window_right": 2, "kv_lengths": (5, 9)},
    *(
        {"mask": mask, "seqlen_q": q, "seqlen_kv": kv, "alignment": alignment, "window_left": 4, "prefix_len": 3}
        for mask in ("causal", "sliding_window", "prefix_lm")
        for q, kv in ((5, 11), (11, 5))
        for alignment in ("top_left", "bottom_right")
    ),
    {"heads_kv": 2},
    {"head_dim_v": 5},
    {"score_mod": "softcap", "softcap": 1.5},
    {"score_mod": "alibi"},
    {"score_mod": "relative_bias"},
    {"score_mod": "sink"},
]


def cases_of(one: Implementation) -> list[Any]:
    """Return the cases that an implementation declares."""
    result = []
    for difference in DIFFERENCES:
        fields = {
            "batch": 2,
            "heads_q": 4,
            "seqlen_q": 13,
            "head_dim": 8,
            "mode": one.declaration.modes[-1],
            **difference,
        }
        case = make_case(operator="multi_head_attention", **fields)
        if one.declaration.refuses(case, "cpu") is None:
            result.append(pytest.param(one, case, id=f"{one.declaration.name}-{case.label().replace(' ', '-')}"))
    return result


def weights_and_inputs(case: Case) -> dict[str, NDArray[np.float64]]:
    """Return all inputs of the call in float64, rounded to the dtype."""
    generator, width = np.random.default_rng(2), case.embed_dim
    shapes = {
        "q": (case.batch, case.seqlen_q, width),
        "k": (case.batch, case.seqlen_kv, width),
        "v": (case.batch, case.seqlen_kv, width),
        "dout": (case.batch, case.seqlen_q, width),
        "w_q": (width, case.heads_q * case.head_dim),
        "w_k": (width, case.heads_kv * case.head_dim),
        "w_v": (width, case.heads_kv * case.head_dim_v),
        "w_o": (case.heads_q * case.head_dim_v, width),
        "relative_bias": (case.heads_q, 32),
        "sinks": (case.heads_q,),
    }
    scales = {name: 1 / np.sqrt(shape[0]) if name.startswith("w_") else 1.0 for name, shape in shapes.items()}
    return {
        name: rounded(generator.standard_normal(shape) * scales[name], case.dtype) for name, shape in shapes.items()
    }


def by_definition(case: Case, given: dict[str, NDArray[np.float64]]) -> Answer:
    """Compute projections, attention head by head, concatenation and projection, and their gradients."""

    def split(x: NDArray[np.float64], heads: int) -> NDArray[np.float64]:
        return np.stack(np.split(x, heads, axis=-1), axis=1)

    def join(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([x[:, h] for h in range(x.shape[1])], axis=-1)

    core = attention_by_definition(
        dataclasses.replace(case, operator="attention"),
        Inputs(
            q=split(given["q"] @ given["w_q"], case.heads_q),
            k=split(given["k"] @ given["w_k"], case.heads_kv),
            v=split(given["v"] @ given["w_v"], case.heads_kv),
            dout=split(given["dout"] @ given["w_o"].T, case.heads_q),
            relative_bias=given["relative_bias"],
            sinks=given["sinks"],
        ),
    )
    return Answer(
        out=join(core.out) @ given["w_o"],
        lse=core.lse,
        dq=join(core.dq) @ given["w_q"].T,
        dk=join(core.dk) @ given["w_k"].T,
        dv=join(core.dv) @ given["w_v"].T,
    )


def operands_of(case: Case, given: dict[str, NDArray[np.float64]], framework: str) -> Operands:
    """Return the inputs as tensors; parameters of scores are at least float32, and ``None`` if the case has none."""
    wide = "float64" if case.dtype == "float64" else "float32"
    absent = {"relative_bias", "sinks"} - {{"relative_bias": "relative_bias", "sink": "sinks"}.get(case.score_mod)}
    placed: dict[str, Any] = {
        name: tensor(values, wide if name in ("relative_bias", "sinks") else case.dtype)
        for name, values in given.items()
        if name not in absent
    }
    if framework == "numpy":
        placed = {name: value.numpy() for name, value in placed.items()}
    return Operands(**placed)


@pytest.mark.parametrize(("one", "case"), [*cases_of(NUMPY), *cases_of(TORCH)])
def test_it_agrees_with_the_definition(one: Implementation, case: Case) -> None:
    given = weights_and_inputs(case)
    operands = operands_of(case, given, one.declaration.framework)
    assert one.prepare_hook is not None
    plan = one.prepare_hook(case, operands)
    found: dict[str, Any]
    if case.needs_gradients:
        leaves = [x.detach().requires_grad_() for x in (operands.q, operands.k, operands.v)]
        out = one.call(*leaves, case, plan)
        gradients = torch.autograd.grad(out, leaves, operands.dout)
        found = {"out": out.detach(), **dict(zip(("dq", "dk", "dv"), gradients, strict=True))}
    else:
        found = {"out": one.call(operands.q, operands.k, operands.v, case, plan)}
    check_dtypes(case, found)
    answer = by_definition(case, given)
    for name, got in found.items():
        wanted = getattr(answer, name)
        error = np.abs(np.asarray(torch.as_tensor(got).double()) - wanted).max() / max(1.0, np.abs(wanted).max())
        assert error <= 3 * ALLOWED[case.dtype], name  # projections before and after attention round, too


def test_the_module_of_torch_refuses_a_scale_that_it_cannot_have() -> None:
    assert TORCH.supports_hook is not None
    usual = make_case(operator="multi_head_attention", head_dim=64)
    assert TORCH.supports_hook(usual, "cpu") is None
    reason = TORCH.supports_hook(make_case(operator="multi_head_attention", head_dim=64, scale=1.0), "cpu")
    assert reason is not None
    assert "the case asks for 1" in reason
