"""The other times, and memory, on a fake device with exact numbers."""

from __future__ import annotations

import pytest

from attnbench.worker.cuda.extra_timings import graph_ns, input_sets, kernels, memory_of, wall_ns
from tests.worker.cuda.conftest import US, FakeDevice

MIB = 2**20


def test_wall_time_is_launch_and_work_without_what_comes_before(device: FakeDevice) -> None:
    def set_up() -> None:
        device.now += 77 * US

    assert wall_ns(device.launch, device, set_up) == device.enqueue_ns + device.warm_ns


def test_a_graph_has_neither_launches_nor_gaps(device: FakeDevice) -> None:
    device.enqueue_ns = 500 * US
    assert graph_ns([device.launch] * 4, device) == device.warm_ns
    assert device.log.count("replay of 4") == 11


def test_inputs_are_rotated_until_they_fill_the_cache_five_times(device: FakeDevice) -> None:
    assert input_sets(25 * MIB, device) == 10
    assert input_sets(1000 * MIB, device) == 1, "inputs this large push each other out"
    assert input_sets(1, device) == 32
    device.free = 400 * MIB
    assert input_sets(25 * MIB, device) == 4, "copies take a quarter of what is free"


def test_what_a_call_does_that_no_graph_can_hold_is_raised(device: FakeDevice) -> None:
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        graph_ns([lambda: device.launch(waits=True)], device)


def test_kernels_by_name_and_their_times(device: FakeDevice) -> None:
    device.launch()
    found = kernels(lambda: device.launch(names=("split", "split", "merge")), device)
    assert sum(kernel.ns for kernel in found) == pytest.approx(device.warm_ns)
    assert [kernel.name for kernel in found] == ["split", "split", "merge"]


class Allocating:
    """A call that holds a workspace while it runs, and returns an output."""

    def __init__(self, device: FakeDevice, output: int, workspace: int, outside: int = 0) -> None:
        self.device, self.output, self.workspace, self.outside = device, output, workspace, outside

    def __call__(self) -> object:
        self.device.allocate(self.output + self.workspace)
        self.device.allocate(-self.workspace)
        self.device.outside = self.outside
        device, output = self.device, self.output

        class Output:
            def __del__(self) -> None:
                device.allocate(-output)

        return Output()


def test_memory_is_that_of_one_call_and_inputs_are_not_counted(device: FakeDevice) -> None:
    device.allocate(100 * MIB)  # the inputs
    found = memory_of(Allocating(device, output=3 * MIB, workspace=5 * MIB), device)
    assert found.peak == 8 * MIB
    assert found.reserved == 8 * MIB
    assert found.resolution == 0


def test_what_a_kernel_takes_outside_of_torch_shows_in_the_devices_memory(device: FakeDevice) -> None:
    def growing() -> object:
        device.outside += 7 * MIB
        return Allocating(device, output=MIB, workspace=0, outside=device.outside)()

    found = memory_of(growing, device)
    assert found.peak == MIB
    assert found.device == 8 * MIB


def test_a_first_calls_lasting_workspace_is_no_part_of_it(device: FakeDevice) -> None:
    calls: list[int] = []

    def call() -> None:
        if not calls:
            device.allocate(32 * MIB)  # as cuBLAS does
        calls.append(0)

    assert memory_of(call, device).peak == 0


def test_memory_of_the_set_up_is_not_counted(device: FakeDevice) -> None:
    def set_up() -> None:
        device.allocate(64 * MIB)

    assert memory_of(Allocating(device, MIB, 0), device, set_up).peak == MIB
