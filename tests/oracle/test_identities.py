"""Checks the oracle by identities of attention, which need no second implementation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from attnbench import Case, make_case
from attnbench.oracle.answer.arithmetic import EXACT, Answer, Plane, attend
from attnbench.oracle.judge import find_truth
from attnbench.oracle.selection import select

ROWS, KEYS, DIM, DIM_V = 23, 31, 8, 5
CASE = make_case(heads_q=1, seqlen_q=ROWS, seqlen_kv=KEYS, head_dim=DIM, head_dim_v=DIM_V, mode="backward")
CAPPED = make_case(
    heads_q=1, seqlen_q=ROWS, seqlen_kv=KEYS, head_dim=DIM, head_dim_v=DIM_V, mode="backward",
    score_mod="softcap", softcap=2.0,
)  # fmt: skip
close = torch.testing.assert_close


def plane(seed: int = 0, *, hidden: bool = True, sink: float | None = None) -> Plane:
    """Return a plane of random tensors in which every row sees a key."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    mask = torch.rand(ROWS, KEYS, generator=generator) < 0.4
    mask[:, 0] = False
    return Plane(
        draw(ROWS, DIM), draw(KEYS, DIM), draw(KEYS, DIM_V), mask if hidden else None, None, sink, draw(ROWS, DIM_V)
    )


def changed(p: Plane, **fields: Any) -> Plane:
    """Return the plane with some tensors replaced."""
    import dataclasses

    return dataclasses.replace(p, **fields)


def answer(p: Plane, case: Case = CASE) -> Answer:
    return attend(EXACT, case, p)


@pytest.mark.parametrize("seed", range(3))
class TestForward:
    def test_keys_in_another_order_give_the_same(self, seed: int) -> None:
        p = plane(seed)
        order = torch.randperm(KEYS, generator=torch.Generator().manual_seed(seed))
        assert p.hidden is not None
        one, other = answer(p), answer(changed(p, k=p.k[order], v=p.v[order], hidden=p.hidden[:, order]))
        close(other.out, one.out)
        close(other.lse, one.lse)
        close(other.dk, one.dk[order] if one.dk is not None else None)

    def test_two_halves_of_the_keys_merge_through_their_lse(self, seed: int) -> None:
        p = plane(seed, hidden=False)
        parts = [answer(changed(p, k=p.k[part], v=p.v[part])) for part in (slice(0, 12), slice(12, None))]
        lse = torch.logaddexp(parts[0].lse, parts[1].lse)
        merged = sum(torch.exp(part.lse - lse)[:, None] * part.out for part in parts)
        close(answer(p).lse, lse)
        close(answer(p).out, merged)

    def test_the_output_is_linear_in_the_values(self, seed: int) -> None:
        p, other = plane(seed), plane(seed + 10)
        together = answer(changed(p, v=2 * p.v - 3 * other.v)).out
        close(together, 2 * answer(p).out - 3 * answer(changed(p, v=other.v)).out)

    def test_values_of_one_give_one_and_less_where_a_sink_takes_part(self, seed: int) -> None:
        ones = torch.ones(KEYS, DIM_V, dtype=torch.float64)
        close(answer(changed(plane(seed), v=ones)).out, torch.ones(ROWS, DIM_V, dtype=torch.float64))
        p = changed(plane(seed, sink=0.5), v=ones)
        share = 1 - torch.exp(0.5 - answer(p).lse)
        close(answer(p).out, share[:, None].expand(-1, DIM_V))

    def test_a_hidden_key_is_as_if_it_were_not_there(self, seed: int) -> None:
        p = plane(seed, hidden=False)
        hidden = torch.zeros(ROWS, KEYS, dtype=torch.bool)
        hidden[:, 20:] = True
        close(answer(changed(p, hidden=hidden)).out, answer(changed(p, k=p.k[:20], v=p.v[:20])).out)

    def test_what_comes_later_changes_nothing_before_it(self, seed: int) -> None:
        p = changed(plane(seed), hidden=torch.ones(ROWS, KEYS, dtype=torch.bool).triu(1))
        later = p.k.clone()
        later[10:] += 1
        close(answer(changed(p, k=later)).out[:10], answer(p).out[:10])

    def test_a_vector_added_to_all_keys_shifts_the_lse_alone(self, seed: int) -> None:
        p = plane(seed)
        shift = torch.randn(DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        moved = answer(changed(p, k=p.k + shift))
        close(moved.out, answer(p).out)
        close(moved.lse, answer(p).lse + CASE.scale * p.q @ shift)

    def test_what_queries_gain_keys_may_lose(self, seed: int) -> None:
        p = plane(seed)
        close(answer(changed(p, q=8 * p.q, k=p.k / 8)).out, answer(p).out, rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", [CASE, CAPPED], ids=["plain", "softcap"])
class TestBackward:
    def test_dv_weighs_as_much_against_v_as_dout_against_out(self, case: Case, seed: int) -> None:
        p = plane(seed)
        a = answer(p, case)
        assert a.dv is not None
        assert p.dout is not None
        close((a.dv * p.v).sum(), (p.dout * a.out).sum())

    def test_dv_adds_up_to_dout(self, case: Case, seed: int) -> None:
        p = plane(seed)
        a = answer(p, case)
        assert a.dv is not None
        assert p.dout is not None
        close(a.dv.sum(0), p.dout.sum(0))

    def test_without_a_softcap_dq_against_q_is_dk_against_k_and_dk_adds_up_to_nothing(
        self, case: Case, seed: int
    ) -> None:
        p = plane(seed)
        a = answer(p, case)
        assert a.dq is not None
        assert a.dk is not None
        close((a.dq * p.q).sum(), (a.dk * p.k).sum())
        if case.softcap is None:
            close(a.dk.sum(0), torch.zeros(DIM, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"mask": "causal"}, {"mask": "sliding_window", "window_left": 40, "window_right": 0}),
        ({"mask": "key_padding", "kv_lengths": [20]}, {"mask": "prefix_lm", "prefix_len": 20, "seqlen_q": 15}),
        ({"mask": "document", "document_lengths": [20]}, {"mask": "none"}),
        ({"mask": "none"}, {"mask": "key_padding", "kv_lengths": [20]}),
        ({"mask": "prefix_lm", "prefix_len": 0}, {"mask": "causal"}),
        ({"score_mod": "softcap", "softcap": 1e9}, {}),
    ],
    ids=str,
)
def test_one_mask_written_in_two_ways_gives_one_answer(one: dict[str, Any], other: dict[str, Any]) -> None:
    common = {"heads_q": 2, "seqlen_q": 20, "mode": "backward", "dtype": "float64"}
    rows = min(other.get("seqlen_q", 20), 20)
    answers = []
    for fields in (one, other):
        case = make_case(**{**common, **fields, "seqlen_q": rows, "seqlen_kv": 20})
        answers.append(find_truth(case, select(case), 0).answers)
    for name, tensor in answers[0].items():
        close(answers[1][name], tensor, atol=1e-7 if "softcap" in one else 1e-12, rtol=1e-7)


def test_grouped_heads_are_equal_heads_whose_keys_repeat() -> None:
    grouped = make_case(heads_q=6, heads_kv=2, seqlen_q=17, mode="backward", dtype="float64")
    truth = find_truth(grouped, select(grouped), 0).answers
    assert truth["dk"].shape[0] == 2
    parts = []
    for head in range(6):
        from attnbench.cases.inputs.operands import operand_head

        k, v = (torch.from_numpy(operand_head(grouped, name, 0, head // 3)).double() for name in ("k", "v"))
        q, dout = (torch.from_numpy(operand_head(grouped, name, 0, head)).double() for name in ("q", "dout"))
        parts.append(attend(EXACT, grouped, Plane(q, k, v, None, None, None, dout)))
    close(truth["out"], torch.stack([part.out for part in parts]))
    summed = [part.dk for part in parts if part.dk is not None]
    close(truth["dk"][1], summed[3] + summed[4] + summed[5])


def test_elements_of_a_batch_do_not_know_of_each_other() -> None:
    fields: dict[str, Any] = {"heads_q": 2, "seqlen_q": 17, "mode": "backward", "dtype": "float64"}
    many, one = make_case(**fields, batch=3), make_case(**fields)
    of_many, of_one = (find_truth(case, select(case), 0).answers for case in (many, one))
    for name, tensor in of_one.items():
        close(of_many[name][: tensor.shape[0]], tensor)


def test_the_lse_of_equal_scores_is_the_logarithm_of_their_number() -> None:
    p = changed(plane(hidden=False), k=torch.zeros(KEYS, DIM, dtype=torch.float64))
    close(answer(p).lse, torch.full((ROWS,), math.log(KEYS), dtype=torch.float64))
