"""Compares the oracle's attention with the definition, written as loops over single numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attnbench import Case, make_case
from attnbench.cases.bias import score_bias
from attnbench.cases.inputs.operands import operand
from attnbench.oracle.answer.arithmetic import EXACT, Arithmetic
from attnbench.oracle.answer.reference import reference
from attnbench.oracle.selection import select
from tests.implementations.definition import sees


def by_definition(case: Case, b: int, h: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the output (seqlen_q, head_dim_v) and LSE (seqlen_q,) of one head, summed as Python floats."""
    g = h // (case.heads_q // case.heads_kv)
    q, k, v = (operand(case, name).astype(np.float64) for name in ("q", "k", "v"))
    table = operand(case, "relative_bias").astype(np.float64) if "relative_bias" in case.score_mods else None
    sink = float(operand(case, "sinks")[h]) if "sink" in case.score_mods else None
    out, lse = np.zeros((case.seqlen_q, case.head_dim_v)), np.full(case.seqlen_q, -math.inf)
    for i in range(case.seqlen_q):
        scores = {}
        for j in (j for j in range(case.seqlen_kv) if sees(case, b, i, j)):
            s = case.scale * sum(q[b, h, i, d] * k[b, g, j, d] for d in range(case.head_dim))
            if case.softcap is not None:
                s = case.softcap * math.tanh(s / case.softcap)
            bias = score_bias(case, h, np.array([i]), np.array([j]), table, b)
            scores[j] = s + (0.0 if bias is None else float(bias[0, 0]))
        total = sum(math.exp(s) for s in scores.values()) + (0.0 if sink is None else math.exp(sink))
        if total == 0:
            continue
        lse[i] = math.log(total)
        for j, s in scores.items():
            out[i] += math.exp(s) / total * v[b, g, j]
    return out, lse


CASES = [
    {},
    {"mask": "causal"},
    {"mask": "causal", "seqlen_q": 7, "seqlen_kv": 4, "alignment": "bottom_right"},
    {"mask": "sliding_window", "window_left": 2, "window_right": 1},
    {"mask": "prefix_lm", "prefix_len": 3},
    {"mask": "document", "document_lengths": [2, 1, 3]},
    {"mask": "key_padding", "kv_lengths": [5, 0]},
    {"mask": "tensor", "mask_file": "random:3"},
    {"score_mod": "bias", "bias_file": "random:4"},
    {"score_mod": "bias", "mask": "causal & tensor", "seqlen_kv": 9},
    {"score_mod": "bias", "bias_file": "random:7", "seqlen_kv": 1},
    {"score_mod": "softcap", "softcap": 0.7},
    {"score_mod": "alibi", "mask": "causal"},
    {"score_mod": "relative_bias", "scale": 1.0},
    {"score_mod": "sink", "mask": "key_padding", "kv_lengths": [0, 4]},
    {"heads_q": 4, "heads_kv": 2, "head_dim_v": 5},
]


@pytest.mark.parametrize("fields", CASES, ids=lambda f: " ".join(map(str, f.values())) or "plain")
def test_the_exact_answer_is_the_definition(fields: dict[str, object]) -> None:
    case = make_case(**{"batch": 2, "heads_q": 2, "seqlen_q": 6, "head_dim": 4, **fields})
    selection = select(case)
    answer = reference(case, selection, 0, EXACT)
    for index, (b, h) in enumerate(selection.query_heads(case)):
        out, lse = by_definition(case, b, h)
        np.testing.assert_allclose(answer["out"][index], out, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(answer["lse"][index], lse, rtol=1e-12)


@pytest.mark.parametrize("fields", CASES, ids=lambda f: " ".join(map(str, f.values())) or "plain")
def test_the_exact_gradients_are_those_of_finite_differences(fields: dict[str, object]) -> None:
    sizes = {"batch": 2, "heads_q": 2, "seqlen_q": 6, "head_dim": 4, "dtype": "float64", "mode": "backward"}
    case = make_case(**{**sizes, **fields})
    selection = select(case)
    answer = reference(case, selection, 0, EXACT)
    dout = torch.from_numpy(operand(case, "dout"))

    def loss(name: str, index: tuple[int, ...], step: float) -> float:
        """Return <dout, out> with one input element moved by a step."""
        moved = {n: operand(case, n).copy() for n in ("q", "k", "v")}
        moved[name][index] += step
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "attnbench.oracle.answer.reference.operand_head",
                lambda c, n, b, h, r: (moved | {"dout": dout.numpy()})[n][b, h],
            )
            out = reference(case, selection, 0, EXACT)["out"]
        heads = selection.query_heads(case)
        return sum(float((dout[b, h] * out[i]).sum()) for i, (b, h) in enumerate(heads))

    for name, places in (("q", (1, 0, 2, 3)), ("k", (0, 1, 1, 0)), ("v", (1, 1, 0, 2))):
        index = tuple(min(place, size - 1) for place, size in zip(places, operand(case, name).shape, strict=True))
        slope = (loss(name, index, 1e-5) - loss(name, index, -1e-5)) / 2e-5
        owners = selection.query_heads(case) if name == "q" else list(selection.groups)
        got = answer[f"d{name}"][owners.index(index[:2])][index[2:]]
        assert float(got) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_the_float32_reference_is_as_wrong_as_float32_is() -> None:
    case = make_case(heads_q=2, seqlen_q=64)
    selection = select(case)
    exact = reference(case, selection, 0, EXACT)["out"]
    for through_lse in (False, True):
        low_precision = reference(case, selection, 0, Arithmetic("float32", through_lse))["out"]
        error = float((low_precision - exact).norm() / exact.norm())
        assert 1e-8 < error < 2e-6


def test_blocks_of_rows_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(heads_q=2, seqlen_q=33, mode="backward", mask="causal")
    whole = reference(case, select(case), 0, EXACT)
    monkeypatch.setattr("attnbench.oracle.answer.heads.BLOCK_PAIRS", 5 * 33)
    _assert_same(reference(case, select(case), 0, EXACT), whole)


@pytest.mark.parametrize("arithmetic", [EXACT, Arithmetic("float32")])
@pytest.mark.parametrize(
    "fields",
    [
        {"mask": "key_padding", "kv_lengths": (21, 0, 13), "score_mod": "relative_bias & sink"},
        {"mask": "causal", "score_mod": "bias", "bias_grad": True, "bias_file": "random:3"},
        {"mask": "causal", "operator": "multi_head_attention"},
        {"score_mod": "alibi", "strides": "expanded_kv"},
    ],
)
def test_heads_that_are_computed_together_give_what_each_gives(
    fields: dict[str, object], arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(batch=3, heads_q=6, heads_kv=3, seqlen_q=21, head_dim=8, mode="forward_backward", **fields)
    together = reference(case, select(case), 0, arithmetic)
    monkeypatch.setattr("attnbench.oracle.answer.reference.TOGETHER_PAIRS", 1)
    _assert_same(reference(case, select(case), 0, arithmetic), together)


def _assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Compare up to the order of sums; for a row with a single key, the variance of its error is noise alone."""
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        power, noise = (2, 1e-11) if name.endswith("_terms") else (1, 1e-14)
        torch.testing.assert_close(got[name] ** power, tensor**power, rtol=1e-13, atol=noise)
