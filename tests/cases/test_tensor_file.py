"""Hostile tensor files: each is refused with a sentence, and no memory is allocated because a header says so."""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from attnbench.cases.case import make_case
from attnbench.cases.inputs.operands import file_problems, operand
from attnbench.cases.tensors.errors import TensorError
from attnbench.cases.tensors.file import UNREADABLE, array_of, entry_of

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = [1, 2, 16, 8]
BYTES = 4 * 2 * 16 * 8


def safetensors(path: Path, header: object, data: bytes = bytes(BYTES), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(shape: object = SHAPE, offsets: object = (0, BYTES), dtype: object = "F32") -> dict[str, object]:
    return {"q": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


DAMAGED: dict[str, tuple[object, str]] = {
    "negative offsets": (entry(offsets=[-BYTES, 0]), "q lies at .*, beyond the 1024 bytes of values"),
    "offsets within the header": (entry(offsets=[-8, BYTES - 8]), "q lies at"),
    "offsets the wrong way round": (entry(offsets=[BYTES, 0]), "q lies at"),
    "2^47 bytes": (entry([2**45], [0, 2**47]), "q lies at .*, beyond the 1024 bytes"),
    "one offset": (entry(offsets=[0]), r"q lies at \[0\], which is no place"),
    "offsets of text": (entry(offsets=["a", "b"]), "which is no place"),
    "offsets with a point": (entry(offsets=[0.0, 1024.0]), "which is no place"),
    "no offsets": ({"q": {"dtype": "F32", "shape": SHAPE}}, "q lies at None"),
    "a shape of negative sizes": (entry([-1, -2, 16, 8]), r"q has the shape \[-1, -2, 16, 8\], which is not a shape"),
    "a shape of truth": (entry([True, 2, 16, 8]), "which is not a shape"),
    "no shape": (entry(None), "q has the shape None, which is not a shape"),
    "a shape of other bytes": (entry([1, 2, 16, 9]), "q has other bytes than its shape says"),
    "an unknown type": (entry(dtype="C64"), "q is of the dtype 'C64', not one of F64, F32, F16, BF16"),
    "a list as type": (entry(dtype=["F32"]), "q is of the dtype"),
    "a text for a tensor": ({"q": "here"}, "q is of the dtype None"),
    "a list as header": ([1, 2], "its header is no table of tensors"),
    "a deep header": (b'{"q":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "no JSON": (b"{{{}", "Expecting property name"),
    "no Unicode": (b"\xff\xfe{}", "can't decode"),
}


@pytest.mark.parametrize(("header", "sentence"), DAMAGED.values(), ids=DAMAGED)
def test_safetensors(tmp_path: Path, header: object, sentence: str) -> None:
    path = safetensors(tmp_path / "a.safetensors", header)
    for read in (array_of, entry_of):
        with pytest.raises(UNREADABLE, match=sentence):
            read(path, "q")


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**63])
def test_safetensors_whose_header_has_another_length(tmp_path: Path, length: int) -> None:
    path = safetensors(tmp_path / "a.safetensors", entry(), length=length)
    with pytest.raises(ValueError, match="no possible length"):
        array_of(path, "q")


def test_an_empty_tensor_is_one_of_another_shape(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "a.safetensors", entry([0], [0, 0]))
    assert array_of(path, "q").shape == entry_of(path, "q").shape == (0,)
    case = make_case(heads_q=2, seqlen_q=16, head_dim=8, inputs=f"file:{path}")
    with pytest.raises(TensorError, match=r"q has shape \(0,\), the case says \(1, 2, 16, 8\)"):
        operand(case, "q")


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(SHAPE, np.complex64), np.zeros(SHAPE, np.int8), np.zeros(SHAPE, np.int32), np.zeros(SHAPE, "U8"),
        np.zeros(SHAPE, "M8[s]"), np.zeros(SHAPE, [("a", "f4")]), np.zeros(SHAPE, np.longdouble), np.array([{}]),
    ],
    ids=lambda array: str(array.dtype),
)  # fmt: skip
def test_what_is_neither_a_float_nor_a_truth_value_is_not_read_as_one(
    tmp_path: Path, values: np.ndarray[Any, Any]
) -> None:
    np.savez(tmp_path / "a.npz", q=values)
    for read in (array_of, entry_of):
        with pytest.raises(TypeError, match=r"q is of the dtype .*, not one of float64, float32, float16"):
            read(tmp_path / "a.npz", "q")


@pytest.mark.parametrize(
    "values", [np.arange(12, dtype=">f8").reshape(3, 4), np.asfortranarray(np.eye(3, 5, dtype="f2"))]
)
def test_arrays_are_read_whatever_their_order(tmp_path: Path, values: np.ndarray[Any, Any]) -> None:
    np.savez_compressed(tmp_path / "a.npz", q=values)
    np.testing.assert_array_equal(array_of(tmp_path / "a.npz", "q"), values)
    assert entry_of(tmp_path / "a.npz", "q").shape == values.shape
    assert array_of(tmp_path / "a.npz", "q").flags.writeable, "whoever makes a tensor of it may write to that"


def archive(path: Path, shape: tuple[int, ...], data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as packed, packed.open("q.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
        member.write(data)
    return path


@pytest.mark.parametrize("shape", [(2**45,), (-1, 2, 16, 8), (1, 2, 16, 9), (1, 2, 16, 7)])
def test_an_archive_whose_array_has_other_bytes_than_it_says(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = archive(tmp_path / "a.npz", shape, bytes(BYTES))
    with pytest.raises(ValueError, match=r"has other bytes than its shape says|which is not a shape"):
        array_of(path, "q")


def test_an_archive_with_a_flipped_bit_is_a_sentence_of_the_case(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", (1, 2, 16, 8), bytes(BYTES))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    case = make_case(heads_q=2, seqlen_q=16, head_dim=8, inputs=f"file:{path}")
    with pytest.raises(TensorError, match="no array 'q' could be read: Bad CRC-32"):
        operand(case, "q")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="no regular file"):
        array_of(tmp_path / "a.npz", "q")


def test_problems_are_known_before_anything_runs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", q=np.zeros(SHAPE), k=np.zeros([1, 2, 17, 8]))
    case = make_case(heads_q=2, seqlen_q=16, head_dim=8, inputs=f"file:{tmp_path}/a.npz")
    assert [problem.partition(": ")[2] for problem in file_problems(case)] == [
        "k has shape (1, 2, 17, 8), the case says (1, 2, 16, 8)",
        "no array 'v' could be read: there is no v, only 'q, k'",
    ]
    assert file_problems(make_case()) == []
