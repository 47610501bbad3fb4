"""Misconduct of a call: returning its inputs, writing into them, running on afterwards, leaving memory unwritten.

Each of these plug-ins computes the right answer, or seems to, and is ``wrong`` nevertheless.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from attnbench import make_case
from attnbench.worker.memory.allocator import poisoned_memory
from attnbench.worker.output_checks import (
    MisconductError,
    checksums,
    require_own_memory,
    require_separate_memory,
    require_tensors,
    require_unchanged,
)
from attnbench.worker.tensors import place
from tests.conftest import PLUGINS, Command, records_of

MISCONDUCT = {
    "returns-its-input": "out lies in the memory of input v: a result must have its own",
    "reuses-its-output": "out lies in the memory of an earlier call's out: a result must have its own",
    "takes-turns-with-two-outputs": "out lies in the memory of an earlier call's out: a result must have its own",
    "takes-turns-in-slow-calls": "out lies in the memory of an earlier call's out: a result must have its own",
    "writes-into-q": "the call wrote into its inputs: q",
    "writes-behind-q": "the call wrote into its inputs: q",
    # Or the memory at its return is judged, if the system schedules its thread too late.
    "goes-on-after-it-returned": "what a call returned was changed afterwards|instead of",
    "returns-a-lazy-tensor": "the call returned Lazy as out, not a torch.Tensor",
    "returns-what-is-not-negated-yet": "a tensor that is not negated or conjugated yet as out",
    "returns-a-sparse-tensor": "a tensor of the layout sparse_coo as out, not a dense one",
    "returns-a-nested-tensor": "a nested tensor as out",
    "returns-a-tensor-of-another-device": "returned out on the device meta, not on cpu",
    # Or, in a call before memory is poisoned, the previous content is judged.
    "leaves-a-row-unwritten": "out is nan where|instead of",
    "returns-what-it-returned-before": r"\(on fresh inputs\)",
    "packs-k-once": r"\(on fresh inputs\)",
}


@pytest.fixture(scope="module")
def records(module_attnbench: Command) -> dict[str, dict[str, object]]:
    path = module_attnbench.folder / "run.jsonl"
    module_attnbench(
        "check", "-p", PLUGINS / "misconduct.py", "-i", "misconduct", "-a", "seqlen=256", "-a", "strides=sliced",
        "--out", path,
    )  # fmt: skip
    return {str(record["implementation"]): record for record in records_of(path)}


@pytest.mark.parametrize(("name", "reason"), MISCONDUCT.items(), ids=MISCONDUCT)
def test_misconduct_makes_a_cell_wrong_and_is_named(
    records: dict[str, dict[str, object]], name: str, reason: str
) -> None:
    record = records[f"misconduct/{name}"]
    assert record["status"] == "wrong"
    assert re.search(reason, str(record["reason"]))


def test_the_same_plugin_without_misconduct_agrees(records: dict[str, dict[str, object]]) -> None:
    assert records["misconduct/none"]["status"] == "ok", records["misconduct/none"]["reason"]


def test_a_stale_result_is_wrong_in_a_run_that_times_too(attnbench: Command, tmp_path: Path) -> None:
    """It is right on the last inputs that it computed, so only inputs that change while timing reveal it."""
    attnbench(
        "run", "-p", PLUGINS / "misconduct.py", "-i", "stale-after-twenty", "-a", "seqlen=256", "--peaks", "none",
        "--out", tmp_path / "run.jsonl",
    )  # fmt: skip
    [record] = records_of(tmp_path / "run.jsonl")
    assert record["status"] == "wrong"
    assert record["reason"].startswith("out of timed sample ")


class TestMemory:
    def test_disjoint_parts_of_one_buffer_are_each_their_own(self) -> None:
        buffer = torch.zeros(2, 8)
        require_own_memory({"out": buffer[0]}, {"v": buffer[1]}, "input")

    @pytest.mark.parametrize("framework", ["torch", "numpy"])
    def test_a_view_is_found_however_it_is_turned(self, framework: str) -> None:
        v = torch.zeros(4, 8)
        out = v.T[2:, 1:]
        view, whole = (out, v) if framework == "torch" else (out.numpy(), v.numpy())
        with pytest.raises(MisconductError, match="out lies in the memory of input v"):
            require_own_memory({"out": view}, {"v": whole}, "input")

    def test_calls_have_separate_memory_though_one_call_may_pack_its_own_together(self) -> None:
        one, two = torch.zeros(8, 3, 4), torch.zeros(8, 3, 4)
        calls = [{name: packed[:, n] for n, name in enumerate(("dq", "dk", "dv"))} for packed in (one, two)]
        require_separate_memory(calls)
        with pytest.raises(MisconductError, match="dv lies in the memory of an earlier call's dv"):
            require_separate_memory([*calls, {"dv": one[:, 2]}])

    def test_what_is_empty_lies_nowhere(self) -> None:
        v = torch.zeros(4, 8)
        require_own_memory({"out": v[:0]}, {"v": v}, "input")


@pytest.mark.parametrize("framework", ["torch", "numpy"])
@pytest.mark.parametrize("strides", ["contiguous", "qkv_slice", "sliced", "expanded_kv"])
def test_a_write_into_any_input_is_seen(framework: str, strides: str) -> None:
    from attnbench import attention

    said = attention("a/b", framework=framework)(lambda q, k, v, case: None).declaration  # type: ignore[arg-type]
    operands = place(make_case(seqlen_q=8, heads_q=2, strides=strides), said, "cpu")
    before = checksums(operands)
    require_unchanged(before, operands)
    operands.k[0, 0, 7, 63] += 1
    with pytest.raises(MisconductError, match=r"inputs: k$"):
        require_unchanged(before, operands)


def test_a_subclass_of_an_array_is_no_result() -> None:
    with pytest.raises(MisconductError, match="returned MaskedArray as out"):
        require_tensors({"out": np.ma.masked_array([1.0])}, "numpy", "cpu")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
@pytest.mark.parametrize("elements", [4096, 2**25])
def test_fresh_memory_is_nan_while_it_is_poisoned(dtype: torch.dtype, elements: int) -> None:
    with poisoned_memory():
        assert bool(torch.empty(elements, dtype=dtype).float().isnan().all())
        assert bool(np.isnan(np.empty(elements, np.float32)).all())
        assert not np.zeros(elements, np.float32).any(), "memory that is asked for as zeros stays so"


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.eye(3).to_sparse(), "a tensor of the layout sparse_coo as out, not a dense one"),
        (torch.empty(3, device="meta"), "out on the device meta, not on cpu"),
    ],
    ids=["sparse", "meta"],
)
def test_a_tensor_whose_values_cannot_be_read_is_named(tensor: torch.Tensor, reason: str) -> None:
    with pytest.raises(MisconductError, match=f"^the call returned {reason}$"):
        require_tensors({"out": tensor}, "torch", "cpu")
