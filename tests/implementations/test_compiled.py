"""Implementations that torch compiles, in few cases, as each compilation takes seconds."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from attnbench import make_case
from tests.implementations.conftest import answer_of, disagreement, implementation, operands_of, results_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

GROUPED = {"batch": 2, "heads_q": 4, "heads_kv": 2, "head_dim": 24, "head_dim_v": 40}


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "forward_backward", "mask": "causal", "seqlen_q": 70, "seqlen_kv": 131, "alignment": "bottom_right"},
        {"mode": "forward", "dtype": "bfloat16", "mask": "key_padding", "kv_lengths": (0, 67), "score_mod": "sink"},
    ],
    ids=lambda fields: fields["mask"],
)
def test_the_compiled_three_steps_agree_with_the_definition(fields: dict[str, Any]) -> None:
    case = make_case(**{"seqlen_q": 70, **GROUPED, **fields})
    found = results_of(implementation("naive_torch", "naive/torch-compile"), case)
    assert disagreement(case, found, answer_of(case)) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"mask": "key_padding", "kv_lengths": (0, 67), "score_mod": "alibi", "strides": "sliced"},
        {"mask": "document", "document_lengths": (1, 29, 40), "score_mod": "relative_bias", "dtype": "bfloat16"},
    ],
    ids=lambda fields: fields["mask"],
)
def test_compiled_flex_attention_agrees_with_the_definition(fields: dict[str, Any]) -> None:
    case = make_case(**{"seqlen_q": 70, **GROUPED, **fields})
    found = results_of(implementation("pytorch.flex", "torch/flex"), case)
    assert disagreement(case, found, answer_of(case)) is None


def test_the_three_steps_are_compiled_as_one_graph() -> None:
    """A graph break would leave parts uncompiled, which the name does not suggest."""
    module = importlib.import_module("attnbench.implementations.naive_torch")
    case = make_case(**{"seqlen_q": 16, **GROUPED, "mask": "causal", "score_mod": "softcap"})
    operands = operands_of(case)
    plan = module.Plan(case, operands)
    explained = torch._dynamo.explain(module.attend)(operands.q, operands.k, operands.v, case, plan)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)
