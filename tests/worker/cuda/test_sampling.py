"""Cold samples on a device with exact times: which times a sample includes."""

from __future__ import annotations

from typing import Any

import pytest

from attnbench.worker.cuda.device import Condition
from attnbench.worker.cuda.sampling import ColdSamples, cold_samples
from attnbench.worker.timing import SamplingLimits
from tests.worker.cuda.conftest import MS, US, FakeDevice


def samples(device: FakeDevice, call: Any = None, enqueue_ns: float | None = None, **more: Any) -> ColdSamples:
    guessed = device.enqueue_ns if enqueue_ns is None else enqueue_ns
    return cold_samples(call or device.launch, device, more.pop("limits", SamplingLimits()), enqueue_ns=guessed, **more)


def test_a_sample_is_the_kernels_time_on_a_cold_cache_to_the_nanosecond(device: FakeDevice) -> None:
    assert samples(device).ns == [device.cold_ns] * 10


def test_each_sample_flushes_first_then_holds_the_device_up_then_calls(device: FakeDevice) -> None:
    samples(device)
    assert device.log == ["flush", "block", "call"] * 10


@pytest.mark.parametrize("enqueue_ns", [1 * US, 30 * US, 900 * US])
def test_the_time_to_launch_does_not_enter_however_long_it_is(enqueue_ns: float) -> None:
    found = samples(FakeDevice(enqueue_ns=enqueue_ns))
    assert set(found.ns) == {40 * US}
    assert found.enqueue_ns == [enqueue_ns] * 10


def test_a_device_that_was_not_held_up_for_long_enough_is_held_up_for_longer() -> None:
    device = FakeDevice(enqueue_ns=700 * US)
    found = samples(device, enqueue_ns=1 * US)  # the guess is far too low
    assert set(found.ns) == {device.cold_ns}
    assert found.queued_ahead
    assert device.log.count("call") == 10 + 4, "50, 100, 200 and 400 us were too short, once"


def test_a_call_that_waits_for_the_device_is_timed_with_its_launch_and_the_record_says_so(device: FakeDevice) -> None:
    found = samples(device, lambda: device.launch(waits=True))
    fields = found.fields()
    assert not found.queued_ahead
    assert fields["launch_bound"] is True
    assert fields["time_method"] == "CUDA events, L2 flushed, launch included: the call waits for the device"


@pytest.mark.parametrize(("enqueue_ns", "bound"), [(39 * US, False), (41 * US, True)])
def test_a_cell_is_launch_bound_when_queueing_takes_longer_than_the_work(enqueue_ns: float, bound: bool) -> None:
    fields = samples(FakeDevice(enqueue_ns=enqueue_ns)).fields()
    assert fields["launch_bound"] is bound
    assert fields["host_enqueue_ns"] == enqueue_ns
    assert (fields["cache_state"], fields["time_method"]) == ("cold", "CUDA events, L2 flushed, launch queued ahead")


def test_the_clock_is_read_for_each_sample_while_the_device_works() -> None:
    busy: list[bool] = []

    class Watched(FakeDevice):
        def condition(self) -> Condition:
            busy.append(self.free_at > self.now)
            return super().condition()

    device = Watched(conditions=[Condition(1980 - n, ()) for n in range(10)])
    assert samples(device).fields()["sm_clock_mhz"] == [1980 - n for n in range(10)]
    assert busy == [True] * 10


HOT, SLOW, CAPPED, FINE = (
    Condition(1700, ("sw_thermal",)),
    Condition(1400, ()),
    Condition(1400, ("sw_power_cap",)),
    Condition(1900, ()),
)


def test_a_throttled_sample_is_kept_and_tagged_with_the_cause() -> None:
    found = samples(FakeDevice(conditions=[FINE, HOT, SLOW, FINE]))
    assert len(found.ns) == 10
    assert found.tags[:4] == [None, "throttled: sw_thermal", "SM clock below 75% of its highest", None]
    assert found.throttled_by == ("sw_thermal",)
    assert found.unusable() is None


def test_more_than_a_fifth_of_tagged_samples_are_of_no_use() -> None:
    assert samples(FakeDevice(conditions=[HOT, HOT, FINE])).unusable() is None
    assert (
        samples(FakeDevice(conditions=[HOT, HOT, SLOW, FINE])).unusable()
        == "3 of 10 samples were disturbed: SM clock below 75% of its highest, throttled: sw_thermal"
    )


def test_a_kernel_that_draws_all_the_power_there_is_is_not_disturbed_but_the_record_says_so() -> None:
    found = samples(FakeDevice(conditions=[CAPPED]))
    assert found.unusable() is None
    assert found.fields()["throttled_by"] == ("sw_power_cap",)
    assert found.fields()["time_sample_tags"] is None


def test_a_card_that_tells_nothing_has_no_clocks_in_its_record() -> None:
    found = samples(FakeDevice(conditions=[Condition(None, ())], highest_mhz=None))
    assert found.fields()["sm_clock_mhz"] is None
    assert found.unusable() is None


def test_sampling_goes_on_until_the_median_is_known_to_half_a_percent() -> None:
    device = FakeDevice()
    times = iter([40 * US * (1.02 if n % 2 else 1.0) for n in range(1000)])

    def call() -> None:
        device.cold_ns = next(times)
        device.launch()

    found = samples(device, call, limits=SamplingLimits(max_samples=60))
    assert len(found.ns) == 60, "at 1 % it would have ended after ten"


def test_flushing_and_holding_up_count_as_time_spent() -> None:
    device = FakeDevice(enqueue_ns=30 * MS, cold_ns=1 * MS)
    found = samples(device, limits=SamplingLimits(sampling_ns=200_000_000, min_samples=100))
    assert 3 <= len(found.ns) <= 4, "each takes 90 ms, of which its own time is one"


def test_fresh_values_and_what_comes_before_a_call_are_not_timed(device: FakeDevice) -> None:
    order: list[str] = []

    def freshen() -> None:
        order.append("freshen")
        device.now += 5 * MS

    def set_up() -> None:
        order.append("set up")
        device.launch()

    found = samples(device, freshen=freshen, set_up=set_up)
    assert set(found.ns) == {device.cold_ns}
    assert order[:4] == ["freshen", "set up", "freshen", "set up"]


def test_a_sample_that_is_taken_again_has_its_set_up_again_and_keeps_its_values() -> None:
    device = FakeDevice(enqueue_ns=80 * US)  # 20 for the flush and 50 at first are too short
    order: list[str] = []
    samples(
        device,
        enqueue_ns=1 * US,
        freshen=lambda: order.append("freshen"),
        set_up=lambda: order.append("set up"),
    )
    assert order[:4] == ["freshen", "set up", "set up", "freshen"]


def test_the_result_is_the_last_calls(device: FakeDevice) -> None:
    calls: list[int] = []

    def call() -> int:
        device.launch()
        calls.append(len(calls))
        return calls[-1]

    assert samples(device, call).result == calls[-1]
