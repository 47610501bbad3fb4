"""The metrics of time; :mod:`attnbench.stages.time.visits` fills them."""

from __future__ import annotations

from attnbench.metrics.metric import Metrics, metric


class TimeMetrics(Metrics, stage="time"):
    """The time of one call, and what disturbed its measurement. On CUDA, device time with a cold L2 cache."""

    time_samples_ns: tuple[float, ...] | None = metric(
        "samples", "Raw samples in order, per call.", unit="ns", join="concatenate", only_ok=True
    )
    time_visits: tuple[int, ...] | None = metric(
        "visits", "Samples of each visit, in order; between visits other cells may have run.", unit="count",
        join="concatenate", only_ok=True,
    )  # fmt: skip
    time_visits_left_out: int | None = metric(
        "visits left out", "Visits that took longer by the runner's clock than by the worker's.", unit="count",
        join="max", better="lower",
    )  # fmt: skip
    time_median_ns: float | None = metric(
        "median", "Median time of one call.", unit="ns", join="median", only_ok=True, better="lower"
    )
    time_ci_low_ns: float | None = metric(
        "95 % from", "Lower end of the 95 % interval (t over visits; without visits, binomial).", unit="ns",
        join="derived", only_ok=True,
    )  # fmt: skip
    time_ci_high_ns: float | None = metric(
        "95 % to", "Upper end of the 95 % interval (t over visits; without visits, binomial).", unit="ns",
        join="derived", only_ok=True,
    )  # fmt: skip
    time_min_ns: float | None = metric(
        "minimum", "The fastest sample.", unit="ns", join="median", only_ok=True, better="lower"
    )
    time_q1_ns: float | None = metric("q1", "First quartile of the samples.", unit="ns", join="median", only_ok=True)
    time_q3_ns: float | None = metric("q3", "Third quartile of the samples.", unit="ns", join="median", only_ok=True)
    time_outliers: int | None = metric(
        "outliers", "Samples above q3 + 3 IQR; they are kept.", unit="count", join="max", only_ok=True
    )
    warmup_calls: int | None = metric("warm-up calls", "Calls before the first sample.", unit="count", join="max")
    warmup_converged: bool | None = metric(
        "warm-up converged", "Medians of two successive windows within 2 %.", unit="yes/no", join="all"
    )
    calls_per_sample: int | None = metric("calls per sample", "Calls that make one sample.", unit="count", join="max")
    time_method: str | None = metric("clock", "How time was measured.", unit="text", only_ok=True)
    cache_state: str | None = metric(
        "cache", "warm: inputs as the last call left them; cold: cache flushed.", unit="text"
    )
    host_enqueue_ns: float | None = metric(
        "launch", "CUDA: median of the host's time to queue a call.", unit="ns", join="median", better="lower"
    )
    launch_bound: bool | None = metric(
        "launch-bound", "CUDA: queueing takes the host longer than the device works.", unit="yes/no", join="any"
    )
    sm_clock_mhz: tuple[int, ...] | None = metric(
        "SM clock", "CUDA: SM clock while each sample ran.", unit="MHz", join="concatenate"
    )
    time_sample_tags: tuple[str | None, ...] | None = metric(
        "disturbed by", "What disturbed each sample; null as a whole where nothing did.", unit="text",
        join="concatenate", only_ok=True,
    )  # fmt: skip
    throttled_by: tuple[str, ...] | None = metric(
        "throttled by", "CUDA: what held the clock down during samples, in NVML's words.", unit="text", join="union"
    )
    involuntary_switches: int | None = metric(
        "context switches", "Context switches forced on the timed window.", unit="count", join="max", better="lower"
    )
    major_faults: int | None = metric(
        "major faults", "Page faults that went to disk in the timed window.", unit="count", join="max", better="lower"
    )
    steal_share: float | None = metric(
        "stolen", "Share of the timed window that the hypervisor gave to others.", unit="ratio", join="max",
        better="lower",
    )  # fmt: skip
