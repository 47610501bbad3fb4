"""A worker's session whose calls queue work on a device: real tensors, exact times."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from attnbench import Operands, attention, make_case
from attnbench.runner.derived_metrics import complete
from attnbench.stages.backend import TellBackend
from attnbench.stages.call import FirstCalls
from attnbench.stages.memory import MeasureMemory
from attnbench.stages.prepare import Prepare
from attnbench.stages.stage import WorkerRequest, filled
from attnbench.stages.time.extra_times import MeasureExtraTimes
from attnbench.stages.time.samples import TakeSamples
from attnbench.store.record import Record
from attnbench.worker.cuda.extra_timings import twin
from attnbench.worker.session import Session
from attnbench.worker.timing import SamplingLimits
from attnbench.worker.worker import Worker
from tests.worker.cuda.conftest import MS, FakeDevice

CASE = make_case(heads_q=2, seqlen_q=8, head_dim=4)


@pytest.fixture
def device() -> FakeDevice:
    """Return a device so slow that the warm-up's 100 ms are about thirty calls."""
    return slow()


def slow(enqueue_ns: float = 1 * MS) -> FakeDevice:
    return FakeDevice(cold_ns=4 * MS, warm_ns=2.5 * MS, enqueue_ns=enqueue_ns)


SAMPLES = TakeSamples(limits=SamplingLimits(), repetition=1, moved=0)


@dataclasses.dataclass
class OnDevice(Worker):
    """A worker whose device is a fake one."""

    device: FakeDevice | None = None

    def begin(self, *about: Any) -> Session:
        begun = super().begin(*about)
        begun.accelerator = self.device
        return begun


def prepared(device: FakeDevice, case: Any = CASE, *, waits: bool = False) -> OnDevice:
    """An implementation that computes on the CPU and takes its time on the fake device."""

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

    worker = OnDevice(on_device, device=device)
    Prepare(case=case, device="cpu").serve(worker)
    return worker


def through(worker: Worker) -> dict[str, Any]:
    """Run all stages in the driver's order, and return all metrics."""
    found: dict[str, Any] = {}
    asked: list[WorkerRequest[Any]] = [FirstCalls(), SAMPLES, MeasureExtraTimes(), MeasureMemory(), TellBackend()]
    for request in asked:
        answer = request.serve(worker)
        found |= filled(answer)
    return {**found, "time_kernel_ns": answer.kernels_ns}


def test_what_the_stages_answer_makes_a_record() -> None:
    found = through(prepared(slow(enqueue_ns=9 * MS)))
    made = complete({**found, "status": "ok"}, CASE, "cuda", None)
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
    worker = prepared(device)
    FirstCalls().serve(worker)
    inputs = SAMPLES.serve(worker).inputs
    one = worker.session
    assert one.operands is not None
    expected = torch.nn.functional.scaled_dot_product_attention(
        one.operands.q, one.operands.k, one.operands.v, scale=CASE.scale
    )
    assert inputs.flip_index == 10, "signs flip before each sample"
    assert torch.equal(one.results[0]["out"], expected)


def test_memory_that_is_handed_out_is_poisoned_before_the_second_call(device: FakeDevice) -> None:
    FirstCalls().serve(prepared(device))
    assert device.poisoned == [2 * 8 * 4 * 4]


def test_a_first_call_lasts_until_its_work_is_done(device: FakeDevice) -> None:
    worker = prepared(device)
    waited: list[float] = []
    device.synchronize = lambda: waited.append(FakeDevice.synchronize(device) or device.now)  # type: ignore[method-assign,func-returns-value]
    FirstCalls().serve(worker)
    assert waited[-1] == device.free_at


def test_a_call_that_no_graph_can_hold_has_the_reason_in_place_of_the_time(device: FakeDevice) -> None:
    found = through(prepared(device, waits=True))
    assert "time_graph_ns" not in found
    assert found["graph_refused"] == "RuntimeError: CUDA error: operation not permitted when stream is capturing"
    assert found["time_wall_ns"] > 0, "the other times are there"


def test_a_backward_pass_is_in_no_graph(device: FakeDevice) -> None:
    found = through(prepared(device, make_case(heads_q=1, seqlen_q=8, head_dim=4, mode="backward")))
    assert "time_graph_ns" not in found
    assert "forward pass before it" in found["graph_refused"]


def test_the_inputs_are_the_same_ones_after_a_graph_has_rotated_others(device: FakeDevice) -> None:
    worker = prepared(device)
    MeasureExtraTimes().serve(worker)
    assert worker.session.prepared().operands is worker.session.operands


@pytest.mark.parametrize("lying", ["contiguous", "expanded", "sliced"])
def test_rotated_inputs_lie_as_the_original_ones_do(lying: str) -> None:
    whole = torch.arange(2 * 3 * 8 * 4, dtype=torch.float32).reshape(2, 3, 8, 4)
    q = {"contiguous": whole, "expanded": whole[:, :1].expand(2, 3, 8, 4), "sliced": whole[:, :, :5]}[lying]
    other = twin(Operands(q=q, k=q, v=q)).q
    assert torch.equal(other, q)
    assert other.stride() == q.stride()
    assert other.data_ptr() != q.data_ptr()


def test_warming_up_waits_for_the_device(device: FakeDevice) -> None:
    found = SAMPLES.serve(prepared(device))
    assert found.warmup_calls is not None
    assert found.warmup_ns == pytest.approx(found.warmup_calls * 3.5 * MS)
    assert found.warmup_ns >= 100 * MS - 4 * MS
    assert SamplingLimits().min_samples == found.inputs.flip_index
