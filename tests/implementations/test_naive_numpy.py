"""The introductory implementation does what its text says."""

from __future__ import annotations

import importlib
import tracemalloc

import numpy as np

from attnbench import make_case
from tests.implementations.conftest import implementation, operands_of

TUTORIAL = importlib.import_module("attnbench.implementations.naive_numpy")


def test_weights_of_a_softmax_are_positive_and_sum_to_one() -> None:
    weights = TUTORIAL.softmax(np.random.default_rng(0).standard_normal((4, 9)) * 30)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1)


def test_the_softmax_of_huge_scores_does_not_overflow() -> None:
    np.testing.assert_allclose(TUTORIAL.softmax(np.array([1e4, 1e4, -1e4])), [0.5, 0.5, 0])


def test_a_query_that_answers_to_one_key_alone_gets_its_value() -> None:
    q, k = np.array([[0.0, 200.0]]), np.array([[9.0, 0.0], [0.0, 9.0]])
    v = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    np.testing.assert_allclose(TUTORIAL.attend(q, k, v), [[4, 5, 6]])


def test_scores_are_divided_by_the_square_root_of_head_dim() -> None:
    q, k = np.ones((1, 4)), np.array([[1.0, 1, 1, 1], [0, 0, 0, 0]])  # scores 4 / 2 and 0
    odds = np.exp(2.0)
    np.testing.assert_allclose(TUTORIAL.attend(q, k, np.array([[1.0], [0.0]])), [[odds / (odds + 1)]])


def test_the_three_steps_for_one_head_are_the_same_as_for_all() -> None:
    case = make_case(batch=2, heads_q=3, seqlen_q=5, seqlen_kv=7, head_dim=4, head_dim_v=6, dtype="float64")
    operands = operands_of(case, framework="numpy")
    out, _ = TUTORIAL.naive(operands.q, operands.k, operands.v, case, TUTORIAL.Plan(case, operands))
    for b in range(2):
        for h in range(3):
            one = TUTORIAL.attend(operands.q[b, h], operands.k[b, h], operands.v[b, h])
            np.testing.assert_allclose(out[b, h], one, rtol=1e-12)


def test_heads_are_neighbouring_columns_and_concatenation_undoes_the_split() -> None:
    x = np.arange(2 * 3 * 8).reshape(2, 3, 8)
    heads = TUTORIAL.split_heads(x, 4)
    np.testing.assert_array_equal(heads[1, 3, 2], x[1, 2, 6:8])
    np.testing.assert_array_equal(TUTORIAL.concatenate_heads(heads), x)


def test_the_peak_of_a_forward_call_is_one_matrix_of_scores_beside_the_output() -> None:
    case = make_case(batch=2, heads_q=4, heads_kv=2, seqlen_q=256, head_dim=16, mask="causal", score_mod="alibi")
    operands = operands_of(case, framework="numpy")
    one = implementation("naive_numpy", "naive/numpy")
    assert one.prepare_hook is not None
    plan = one.prepare_hook(case, operands)
    tracemalloc.start()
    out, lse = one.call(operands.q, operands.k, operands.v, case, plan)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    scores = 2 * 4 * 256 * 256 * 4
    assert scores + out.nbytes < peak < scores + out.nbytes + 20 * lse.nbytes


def test_absorbed_latent_attention_is_what_deepseek_v3_expands() -> None:
    """absorbed(q W_UK, latent) W_UV = expanded(q, latent W_UK, latent W_UV): heads of 128 + 64 dims, a rank of 512."""
    heads, tokens, rank, nope, rope, dim_v = 3, 40, 512, 128, 64, 128
    generator = np.random.default_rng(0)
    latent = generator.standard_normal((1, 1, tokens, rank + rope))
    q = generator.standard_normal((1, heads, 2, nope + rope))
    w_uk = generator.standard_normal((heads, rank, nope)) / np.sqrt(rank)
    w_uv = generator.standard_normal((heads, rank, dim_v)) / np.sqrt(rank)
    shared = {"heads_q": heads, "seqlen_q": 2, "seqlen_kv": tokens, "dtype": "float64", "scale": (nope + rope) ** -0.5}

    absorbed = make_case(**shared, heads_kv=1, head_dim=rank + rope, head_dim_v=rank, kv_cache="latent")
    q_absorbed = np.concatenate([q[..., :nope] @ w_uk.swapaxes(1, 2), q[..., nope:]], axis=-1)
    plan = TUTORIAL.Plan(absorbed, operands_of(absorbed, framework="numpy"))
    out, lse = TUTORIAL.naive(q_absorbed, latent, latent[..., :rank], absorbed, plan)

    expanded = make_case(**shared, head_dim=nope + rope, head_dim_v=dim_v)
    k = np.concatenate([latent[..., :rank] @ w_uk, np.repeat(latent[..., rank:], heads, axis=1)], axis=-1)
    plan = TUTORIAL.Plan(expanded, operands_of(expanded, framework="numpy"))
    want, want_lse = TUTORIAL.naive(q, k, latent[..., :rank] @ w_uv, expanded, plan)
    np.testing.assert_allclose(out @ w_uv, want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(lse, want_lse, rtol=1e-12)
