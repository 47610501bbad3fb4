"""A worker's session whose calls queue work on a device: real tensors, exact times."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from attnbench import Operands, attention, make_case
from attnbench.runner.derived_metrics import complete
from attnbench.store.record import Record
from attnbench.worker.cuda.stages import twin
from attnbench.worker.session import Session
from attnbench.worker.timing import SamplingLimits
from tests.worker.cuda.conftest import MS, FakeDevice

CASE = make_case(heads_q=2, seqlen_q=8, head_dim=4)


@pytest.fixture
def device() -> FakeDevice:
    """Slow enough for the warm-up's 100 ms to be some thirty calls."""
    return slow()


def slow(enqueue_ns: float = 1 * MS) -> FakeDevice:
    return FakeDevice(cold_ns=4 * MS, warm_ns=2.5 * MS, enqueue_ns=enqueue_ns)


def session(device: FakeDevice, case: Any = CASE, *, waits: bool = False) -> Session:
    """Of an implementation that computes on the CPU and takes its time on the fake device."""

    @attention("fake/gpu", modes=["forward", "backward", "forward_backward"])
    def on_device(q: Any, k: Any, v: Any, case: Any) -> Any:
        device.launch(waits=waits)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=case.scale)

    @on_device.backward
    def gradients(dout: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, case: Any, plan: Any) -> Any:
        del dout, out, lse, case, plan
        device.launch()
        return q.clone(), k.clone(), v.clone()

    @on_device.backend
    def hook(run: Any) -> str:
        run()
        return "a fake"

    return Session(on_device, case, "cpu", accelerator=device)


def through(one: Session) -> dict[str, Any]:
    """All stages in the runner's order; the answers in one."""
    found = {**one.prepare(), **one.first_call()}
    found |= one.time(SamplingLimits(), "warm")
    kept = one.results
    found |= {**one.further_times(), **one.memory(), **one.backend(), "kept": kept}
    return found


def test_what_the_stages_answer_makes_a_record() -> None:
    found = through(session(slow(enqueue_ns=9 * MS)))
    fields = {name: value for name, value in found.items() if name in Record.model_fields}
    made = complete({**fields, "status": "ok"}, CASE, "cuda", None)
    record = Record.model_validate(
        {"run_id": "r", "record_id": "1", "case_id": CASE.case_id, "implementation": "fake/gpu", "repro": "",
         "device": "cuda", **CASE.to_dict(), **made}
    )  # fmt: skip
    assert record.time_median_ns == 4 * MS
    assert record.time_graph_ns == 2.5 * MS
    assert record.time_wall_ns == 11.5 * MS
    assert record.time_kernel_ns == 2.5 * MS
    assert (record.host_enqueue_ns, record.launch_bound, record.cache_state) == (9 * MS, True, "cold")
    assert record.backend == "a fake; kernels: flash_fwd"
    assert record.memory_method is not None
    assert record.first_call_ns is not None


def test_the_output_that_is_judged_is_the_last_timed_calls_on_its_own_inputs(device: FakeDevice) -> None:
    one = session(device)
    one.prepare()
    one.first_call()
    flip_index = one.time(SamplingLimits(), "warm")["flip_index"]
    assert one.operands is not None
    expected = torch.nn.functional.scaled_dot_product_attention(
        one.operands.q, one.operands.k, one.operands.v, scale=CASE.scale
    )
    assert flip_index == 9, "inputs turned before each sample but the first"
    assert torch.equal(one.results[0]["out"], expected)


def test_memory_that_is_handed_out_is_poisoned_before_the_second_call(device: FakeDevice) -> None:
    one = session(device)
    one.prepare()
    one.first_call()
    assert device.poisoned == [2 * 8 * 4 * 4]


def test_a_first_call_lasts_until_its_work_is_done(device: FakeDevice) -> None:
    one = session(device)
    one.prepare()
    waited: list[float] = []
    device.synchronize = lambda: waited.append(FakeDevice.synchronize(device) or device.now)  # type: ignore[method-assign,func-returns-value]
    one.first_call()
    assert waited[-1] == device.free_at


def test_a_call_that_no_graph_can_hold_has_the_reason_in_place_of_the_time(device: FakeDevice) -> None:
    found = through(session(device, waits=True))
    assert found["time_graph_ns"] is None
    assert found["graph_refused"] == "RuntimeError: CUDA error: operation not permitted when stream is capturing"
    assert found["time_wall_ns"] > 0, "the other times are there"


def test_a_backward_pass_is_in_no_graph(device: FakeDevice) -> None:
    found = through(session(device, make_case(heads_q=1, seqlen_q=8, head_dim=4, mode="backward")))
    assert found["time_graph_ns"] is None
    assert "forward pass before it" in found["graph_refused"]


def test_the_inputs_are_the_same_ones_after_a_graph_has_rotated_others(device: FakeDevice) -> None:
    one = session(device)
    one.prepare()
    one.further_times()
    assert one.call is not None
    assert one.call.operands is one.operands


@pytest.mark.parametrize("lying", ["contiguous", "expanded", "sliced"])
def test_rotated_inputs_lie_as_the_original_ones_do(lying: str) -> None:
    whole = torch.arange(2 * 3 * 8 * 4, dtype=torch.float32).reshape(2, 3, 8, 4)
    q = {"contiguous": whole, "expanded": whole[:, :1].expand(2, 3, 8, 4), "sliced": whole[:, :, :5]}[lying]
    other = twin(Operands(q=q, k=q, v=q)).q
    assert torch.equal(other, q)
    assert other.stride() == q.stride()
    assert other.data_ptr() != q.data_ptr()


def test_warming_up_waits_for_the_device(device: FakeDevice) -> None:
    one = session(device)
    one.prepare()
    found = one.time(SamplingLimits(), "warm")
    assert found["warmup_ns"] == pytest.approx(found["warmup_calls"] * 3.5 * MS)
    assert found["warmup_ns"] >= 100 * MS - 4 * MS
    assert dataclasses.asdict(SamplingLimits())["min_samples"] == found["flip_index"] + 1
