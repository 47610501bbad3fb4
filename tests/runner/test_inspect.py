"""``attnbench inspect`` with real processes: attention's weights, and an implementation's errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import attnbench.api
from attnbench.cases.tensors.file import array_of
from attnbench.cli.main import exit_code

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.slow

# The diagonal is one key too far to the right: every query except the last sees one key too many.
PEEKING = """
import torch
from attnbench import attention

@attention("mine/peeking", dtypes=["float32"], masks=["causal"])
def peeking(q, k, v, case):
    scores = q @ k.transpose(-1, -2) * case.scale
    hidden = torch.ones(scores.shape[-2:]).triu(2).bool()
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
"""


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    shares: NDArray[np.float64] = weights / weights.sum(-1, keepdims=True)
    return shares


def test_the_weights_are_those_of_attention_and_the_error_lies_where_it_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 2, 24, 16)).astype(np.float32) for _ in range(3))
    np.savez(tmp_path / "mine.npz", q=q, k=k, v=v)
    (tmp_path / "peeking.py").write_text(PEEKING)
    out = tmp_path / "page"
    code = exit_code(
        ["inspect", str(tmp_path / "mine.npz"), "-a", "mask=causal", "-p", str(tmp_path / "peeking.py"),
         "-i", "mine/peeking", "--out", str(out)]
    )  # fmt: skip
    assert code == 1
    assert capsys.readouterr().out == f"{out / 'index.html'}\n"
    inside = np.load(out / "inside.npz")
    hidden = np.triu(np.ones((24, 24), bool), 1)
    scores = np.where(hidden, -np.inf, q[0].astype(np.float64) @ k[0].swapaxes(-1, -2) / 4)
    weights = softmax(scores)
    np.testing.assert_allclose(inside["weights"], weights, atol=1e-6)
    entropy = -(weights * np.log2(np.where(weights > 0, weights, 1))).sum(-1)
    np.testing.assert_allclose(inside["entropy"], entropy, atol=1e-5)
    np.testing.assert_array_equal(inside["top_key"], weights.argmax(-1))
    np.testing.assert_array_equal(inside["mask"], ~hidden)
    errors = np.load(out / "errors-1.npz")["out"]
    assert errors.shape == (2, 24, 16)
    assert (errors[:, :-1].max(-1) > 1e-3).all(), "every query but the last sees too much"
    assert errors[:, -1].max() < 1e-5
    facts = json.loads((out / "inspection.json").read_text())
    assert facts["implementations"][0]["status"] == "wrong"
    text = (out / "report.md").read_text()
    assert "mine/peeking disagrees" in text
    assert "300 of 576 pairs" in text


def test_what_is_too_large_is_refused_with_a_sentence_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["inspect", "-a", "seqlen=64k", "--out", str(tmp_path / "page")]) == 2
    assert "too large to be looked into" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("axes", "sizes"),
    [
        ((), (2, 64, 64, "causal")),
        (("dtype=bfloat16",), (2, 64, 64, "none")),
        (("heads=1",), (1, 1024, 1024, "none")),
        (("seqlen_kv=9", "seqlen_q=5"), (8, 5, 9, "none")),
    ],
)
def test_a_case_whose_size_is_not_said_is_small(
    axes: tuple[str, ...], sizes: tuple[int, int, int, str], tmp_path: Path
) -> None:
    attnbench.api.inspect(axis=axes, out=tmp_path / "page")
    case = json.loads((tmp_path / "page" / "inspection.json").read_text())["case"]
    assert (case["heads_q"], case["seqlen_q"], case["seqlen_kv"], case["mask"]) == sizes


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        pytest.param({"q": np.zeros((1, 1, 4, 8))}, "there is no k, only 'q'; there is no v", id="no k"),
        pytest.param({n: np.zeros((4, 8)) for n in "qkv"}, "must have the axes", id="two axes"),
        pytest.param(
            {"q": np.zeros((1, 1, 4, 8)), "k": np.zeros((1, 1, 5, 9)), "v": np.zeros((1, 1, 5, 8))},
            "the shapes do not fit", id="head_dim",
        ),
    ],
)  # fmt: skip
def test_tensors_that_make_no_case_are_refused(
    arrays: dict[str, NDArray[np.float64]], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    assert exit_code(["inspect", str(tmp_path / "mine.npz")]) == 2
    assert sentence in capsys.readouterr().err


def safetensors(path: Path, tensors: dict[str, tuple[str, NDArray[np.generic]]]) -> Path:
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_safetensors_are_read_bfloat16_too(tmp_path: Path) -> None:
    values = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    path = safetensors(tmp_path / "a.safetensors", {"q": ("F32", values), "k": ("BF16", halves)})
    np.testing.assert_array_equal(array_of(path, "q"), values)
    np.testing.assert_array_equal(array_of(path, "k"), values)
    with pytest.raises(KeyError, match="v is not among q, k"):
        array_of(path, "v")


def test_a_damaged_safetensors_file_is_no_riddle(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="no safetensors file"):
        array_of(path, "q")
