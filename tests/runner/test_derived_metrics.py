"""A record's figures are derived from raw samples."""

from __future__ import annotations

import math
import statistics

import pytest

from attnbench import make_case, minimum_bytes
from attnbench.metrics.samples import time_statistics
from attnbench.runner.derived_metrics import complete, model

PEAKS = {"tflops": {"float32": 2.0}, "gbytes_per_s": 100.0}


def test_statistics_of_samples() -> None:
    fields = time_statistics([10, 11, 12, 13, 14, 15, 16, 17, 18, 100])
    assert fields["time_median_ns"] == 14.5
    assert (fields["time_ci_low_ns"], fields["time_ci_high_ns"]) == (11, 18)
    assert fields["time_min_ns"] == 10
    assert (fields["time_q1_ns"], fields["time_q3_ns"]) == (12.25, 16.75)
    assert fields["time_outliers"] == 1, "it is counted, and stays"


def test_with_visits_the_interval_is_theirs() -> None:
    fields = time_statistics([10, 11, 12, 20, 21, 22, 15, 15, 100], [3, 3, 3])
    assert fields["time_median_ns"] == 15
    within = 4.302653 * statistics.stdev(map(math.log, [11, 21, 15])) * math.sqrt(2 / 3)
    reach = math.hypot(within, 1.96 * math.sqrt(2) * 0.02)  # the second term is the difference between processes
    assert fields["time_ci_low_ns"] == pytest.approx(15 * math.exp(-reach))
    assert fields["time_ci_high_ns"] == pytest.approx(15 * math.exp(reach))
    assert time_statistics([10, 11, 12], [2, 1])["time_ci_low_ns"] is None


def test_too_few_samples_have_no_interval() -> None:
    fields = time_statistics([10, 11, 12])
    assert fields["time_ci_low_ns"] is fields["time_ci_high_ns"] is None


def test_the_model_of_a_case_that_computes() -> None:
    case = make_case(heads_q=1, seqlen_q=1000, head_dim=50)  # 2e8 operations, 8e5 bytes
    found = model(case, 1e6, PEAKS, "cpu")
    assert found.flops == 200_000_000
    assert found.bytes == 800_000
    assert found.tflops == pytest.approx(0.2)
    assert found.gbytes_per_s == pytest.approx(0.8)
    assert found.percent_of_peak == pytest.approx(10)
    assert found.bound == "compute"
    assert found.percent_of_roofline == pytest.approx(10)


def test_the_model_of_a_case_that_moves_memory() -> None:
    case = make_case(heads_q=1, seqlen_q=1, seqlen_kv=100_000, head_dim=50)
    found = model(case, 1e6, PEAKS, "cpu")
    assert found.bound == "memory"
    assert found.percent_of_roofline == pytest.approx(100 * case.seqlen_kv * 400 / 100 / 1e6, rel=1e-3)


def test_a_dtype_without_a_peak_has_no_percentage() -> None:
    found = model(make_case(dtype="bfloat16"), 1e6, PEAKS, "cuda")
    assert found.peak_tflops is None
    assert found.percent_of_peak is None


@pytest.mark.parametrize(("device", "peak"), [("cpu", 2.0), ("cuda", 0.02)])
def test_on_a_cpu_a_library_that_is_slow_in_16_bits_is_no_limit(device: str, peak: float) -> None:
    """Inputs can be converted to float32. On a GPU the peak of a dtype is that of its own units."""
    peaks = {"tflops": {"float32": 2.0, "float16": 0.02}, "gbytes_per_s": 100.0}
    assert model(make_case(dtype="float16"), 1e6, peaks, device).peak_tflops == peak


@pytest.mark.parametrize(("device", "percent"), [("cpu", 251), ("cuda", 106)])
def test_a_rate_that_cannot_be_true_makes_the_cell_invalid(device: str, percent: int) -> None:
    case = make_case(heads_q=1, seqlen_q=1000, head_dim=50)
    median = 2e8 / (2.0 * percent / 100) / 1e3
    fields = complete({"status": "ok", "time_samples_ns": [median] * 10, "memory_peak_bytes": 5}, case, device, PEAKS)
    assert (fields["status"], fields["stage"]) == ("invalid", "time")
    assert f"is {percent} % of the peak of 2 " in fields["reason"]
    assert "time_median_ns" not in fields
    assert "memory_peak_bytes" not in fields


def test_workspace_is_the_peak_less_the_output() -> None:
    fields = complete({"memory_peak_bytes": 100, "memory_output_bytes": 30}, make_case(), "cpu", None)
    assert fields["memory_workspace_bytes"] == 70


def test_the_peak_is_at_least_what_the_call_returned() -> None:
    fields = complete({"memory_peak_bytes": 0, "memory_output_bytes": 65536}, make_case(), "cpu", None)
    assert (fields["memory_peak_bytes"], fields["memory_workspace_bytes"]) == (65536, 0)


def test_on_a_gpu_more_bytes_than_the_memory_can_move_are_invalid_too() -> None:
    case = make_case(heads_q=1, seqlen_q=1, seqlen_kv=100_000, head_dim=50)
    peaks = {**PEAKS, "read_gbytes_per_s": 120.0}
    moved = minimum_bytes(case)
    fields = complete({"status": "ok", "time_samples_ns": [moved / 127.0] * 10}, case, "cuda", peaks)
    assert (fields["status"], fields["stage"]) == ("invalid", "time")
    assert fields["reason"].startswith("127 GB/s is 106 % of the 120 that was measured on this machine")
    for device, rate in (("cuda", 125.0), ("cpu", 127.0)):  # reads may beat copies, and a CPU's cache may be warm
        assert complete({"status": "ok", "time_samples_ns": [moved / rate] * 10}, case, device, peaks)["status"] == "ok"


def test_a_cost_for_which_no_table_has_room_is_absent() -> None:
    found = model(make_case(seqlen_q=2**40, heads_q=2**40), None, None, "cpu")
    assert (found.flops, found.bytes) == (None, None)
