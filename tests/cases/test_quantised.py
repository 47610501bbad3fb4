"""K and V stored in eight bits, compared with plain loops and torch's float8."""

import numpy as np
import pytest

from attnbench.cases.case import Case, CaseError, make_case
from attnbench.cases.cost import flops, minimum_bytes
from attnbench.cases.inputs.input_distributions import TILE
from attnbench.cases.inputs.operands import operand, operand_head
from attnbench.cases.quantised import dequantised, quantised
from attnbench.sweep.fields import parse_value

KV_DTYPES = ("int8", "float8_e4m3fn")


def by_loops(row: list[float], kv_dtype: str) -> tuple[list[float], float]:
    """Quantise one row number by number; return the stored numbers and the scale."""
    import torch

    largest = {"int8": 127.0, "float8_e4m3fn": 448.0}[kv_dtype]
    least = max(max(abs(x) for x in row) / largest, 2.0**-100)
    exponent = 0
    while least * 2.0**exponent < 2.0**15:
        exponent += 1
    while least * 2.0**exponent >= 2.0**16:
        exponent -= 1
    scale = -(-(least * 2.0**exponent) // 1) / 2.0**exponent  # rounded up to 16 bits
    if kv_dtype == "int8":
        return [float(round(x / scale)) for x in row], scale
    return torch.tensor([x / scale for x in row]).to(torch.float8_e4m3fn).double().tolist(), scale


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_each_row_has_the_numbers_and_the_scale_of_the_definition(kv_dtype: str) -> None:
    values = np.random.default_rng(1).standard_normal((2, 3, 5, 12)).astype(np.float32)
    values[0, 1, 2] = 0
    values[1, 0] *= 1e-6
    values[1, 1] *= 1e9
    stored, scale = quantised(values, kv_dtype)
    for index in np.ndindex(2, 3, 5):
        numbers, of_row = by_loops([float(x) for x in values[index]], kv_dtype)
        assert float(scale[index]) == pytest.approx(of_row, rel=2**-15)
        assert np.abs(stored[index] - numbers).max() <= (1 if kv_dtype == "int8" else 32)
        assert np.mean(stored[index] == numbers) > 0.9  # a scale that differs by a rounding moves ties


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_float32_holds_what_is_left_exactly_and_it_is_stored_alike_again(kv_dtype: str) -> None:
    values = np.random.default_rng(2).standard_normal((64, 128)).astype(np.float32)
    values[3] = 0
    stored, scale = quantised(values, kv_dtype)
    exact = stored.astype(np.float64) * scale[:, None].astype(np.float64)
    left = dequantised(values, kv_dtype)
    assert np.array_equal(left.astype(np.float64), exact)
    again, scale_again = quantised(left, kv_dtype)
    assert np.array_equal(again, stored)
    assert np.array_equal(scale_again, scale)
    error = np.abs(left - values) / np.abs(values).max(-1, keepdims=True).clip(1e-30)
    assert 0 < error.max() <= {"int8": 0.501 / 127, "float8_e4m3fn": 16.1 / 448}[kv_dtype]


def test_float8_is_rounded_as_torch_rounds_it() -> None:
    torch = pytest.importorskip("torch")
    row = np.concatenate([np.linspace(-448, 448, 4001), [2.0**-9 * k / 8 for k in range(200)]]).astype(np.float32)
    stored, scale = quantised(row[None], "float8_e4m3fn")
    want = torch.from_numpy(row / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float().numpy()
    assert np.array_equal(stored[0], want)


def test_operands_are_the_dequantised_values_of_what_is_drawn_without() -> None:
    plain, case = (
        make_case(batch=2, heads_q=2, seqlen_q=3, seqlen_kv=TILE + 1, kv_dtype=kv) for kv in ("none", "int8")
    )
    assert np.array_equal(operand(case, "q"), operand(plain, "q"))
    for name in ("k", "v"):
        whole = operand(case, name)
        assert np.array_equal(whole, dequantised(operand(plain, name), "int8"))
        assert not np.array_equal(whole, operand(plain, name))
        assert np.array_equal(operand_head(case, name, 1, 1), whole[1, 1])


def test_the_case_says_what_is_stored_and_other_cases_keep_their_ids() -> None:
    case = make_case(kv_dtype="int8")
    assert case.label().endswith("int8-kv")
    assert make_case(**case.to_dict()) == case
    assert make_case(kv_dtype="none") == make_case()
    assert make_case().case_id == "2968d72f2952"
    assert len({make_case(kv_dtype=kv).case_id for kv in ("none", *KV_DTYPES)}) == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mode": "backward"}, "for inference"),
        ({"operator": "multi_head_attention"}, "for inference"),
        ({"kv_cache": "paged"}, "kv_cache = 'dense'"),
        ({"strides": "sliced"}, "strides = 'contiguous'"),
        ({"dtype": "float8_e4m3fn"}, "higher precision"),
        ({"kv_dtype": "int4"}, "none of none, int8"),
    ],
)
def test_contradictions_are_sentences(fields: dict[str, object], words: str) -> None:
    with pytest.raises(CaseError, match=words):
        make_case(**{"kv_dtype": "int8", **fields})


def test_bytes_are_those_of_what_is_stored() -> None:
    fields: dict[str, object] = {"heads_q": 8, "heads_kv": 2, "seqlen_q": 1, "seqlen_kv": 100, "head_dim_v": 32}
    case: Case = make_case(kv_dtype="int8", **fields)
    assert minimum_bytes(case) == 2 * 100 * (64 + 32) + 2 * 2 * 100 * 4 + 4 * 8 * (64 + 32)
    assert flops(case) == flops(make_case(**fields))


def test_a_scenario_may_say_it() -> None:
    assert parse_value("kv_dtype", "none") == "none"
    with pytest.raises(ValueError, match="float8_e4m3fn"):
        parse_value("kv_dtype", "int4")
