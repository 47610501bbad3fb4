"""A cell joins its processes: one failure decides its status, and disturbed ones are left out and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.case import make_case
from attnbench.store.record import METRICS
from attnbench.views.cells import PER_SAMPLE, cells_of
from tests.views.conftest import failed, full_record, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.store.reader import RunFile

CASE = make_case(seqlen_q=64, mask="key_padding", batch=2)


def test_the_processes_of_a_cell_are_one_result(run_of: Callable[..., RunFile]) -> None:
    medians, ratios, peaks = (100.0, 130.0, 110.0), (0.1, 0.7, 0.2), (4000, 4096, 4400)
    run = run_of(
        [
            timed(CASE, "a/a", median, replicate=i, out_error_ratio=ratios[i], memory_peak_bytes=peaks[i])
            for i, median in enumerate(medians)
        ]
    )
    (cell,) = cells_of(run)
    assert cell.case == CASE
    assert (cell.status, cell.processes, cell.time_ns) == ("ok", 3, 110)
    assert cell.metrics.memory_peak_bytes == 4096
    assert cell.error_ratio == 0.7


def test_the_worst_tensor_speaks_for_a_cell(run_of: Callable[..., RunFile]) -> None:
    (cell,) = cells_of(
        run_of([timed(CASE, "a/a", 100.0, out_error_ratio=0.1, dk_error_ratio=0.8, lse_error_ratio=0.3)])
    )
    assert cell.error_ratio == 0.8


def test_a_process_that_failed_takes_the_speed_from_the_whole_cell(run_of: Callable[..., RunFile]) -> None:
    (cell,) = cells_of(
        run_of(
            [
                timed(CASE, "a/a", 100.0),
                failed(CASE, "a/a", "wrong", "out is off", stage="agreement", replicate=1, out_error_ratio=3.0),
                timed(CASE, "a/a", 100.0, replicate=2),
            ]
        )
    )
    assert (cell.status, cell.stage, cell.timing, cell.metrics.memory_peak_bytes) == ("wrong", "agreement", None, None)
    assert cell.reason == "out is off (in 1 of 3 processes)"
    assert cell.error_ratio == 3.0


def test_a_process_that_was_disturbed_is_left_out_and_the_others_count(run_of: Callable[..., RunFile]) -> None:
    (cell,) = cells_of(
        run_of(
            [
                failed(CASE, "a/a", "invalid", "its clock was throttled", stage="time"),
                timed(CASE, "a/a", 100.0, replicate=1),
                timed(CASE, "a/a", 120.0, replicate=2),
            ]
        )
    )
    assert (cell.status, cell.time_ns) == ("ok", 110)
    assert cell.reason == "1 of 3 processes are left out: its clock was throttled"


def test_a_cell_of_which_every_process_was_disturbed_is_not_ok(run_of: Callable[..., RunFile]) -> None:
    (cell,) = cells_of(run_of([failed(CASE, "a/a", "invalid", "noise", replicate=i) for i in range(2)]))
    assert (cell.status, cell.timing) == ("invalid", None)


def test_devices_are_cells_of_their_own(run_of: Callable[..., RunFile]) -> None:
    run = run_of([timed(CASE, "a/a", 100.0), timed(CASE, "a/a", 1.0, device="cuda")])
    assert sorted((cell.device, cell.time_ns) for cell in cells_of(run)) == [("cpu", 100.0), ("cuda", 1.0)]


def test_rates_follow_from_the_cells_own_time(run_of: Callable[..., RunFile]) -> None:
    run = run_of(
        [timed(CASE, "a/a", t, replicate=i, flops=2_000_000, peak_tflops=0.2) for i, t in enumerate((9e3, 2e4))]
    )
    (cell,) = cells_of(run)
    assert cell.time_ns == 14_500
    assert cell.metrics.tflops == 2_000_000 / 14_500 / 1e3
    assert cell.metrics.percent_of_peak == 100 * cell.metrics.tflops / 0.2


def test_a_cell_has_every_metric_of_its_record_under_the_same_name(run_of: Callable[..., RunFile]) -> None:
    ragged = make_case(requests="3q16")  # only ragged batches have a rate of tokens
    (cell,) = cells_of(run_of([full_record(ragged, replicate=i) for i in range(3)]))
    assert [name for name in METRICS if getattr(cell.metrics, name) is None] == []
    numbers = cell.numbers()
    assert [name for name in METRICS if name not in numbers] == list(PER_SAMPLE)
    assert all(numbers[name] is not None for name in METRICS if name not in PER_SAMPLE)
    assert numbers["host_enqueue_ns"] == 1


def test_a_cell_that_failed_keeps_no_metric_of_ok_cells(run_of: Callable[..., RunFile]) -> None:
    bad = failed(CASE, "a/a", "wrong", "out is off", stage="agreement", replicate=1)
    (cell,) = cells_of(run_of([full_record(CASE), bad]))
    assert {name for name in METRICS if getattr(cell.metrics, name) is not None} == {
        name for name, metric in METRICS.items() if not metric.only_ok
    }


def test_the_interval_of_a_cell_is_that_over_its_processes(run_of: Callable[..., RunFile]) -> None:
    (cell,) = cells_of(run_of([timed(CASE, "a/a", 100.0 + i, replicate=i) for i in range(3)]))
    assert (cell.metrics.time_ci_low_ns, cell.metrics.time_ci_high_ns) == (100.0, 102.0)
