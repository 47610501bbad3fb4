"""One record: what one cell gave in one worker process.

Flat, immutable, versioned; units stand in the names; what is absent is ``None``, never 0 or -1. The descriptions below
are the file format's documentation: ``attnbench schema record`` prints them as a JSON Schema.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 3
"""History of the format; every version has a golden file in tests/store/golden/.

1 (2026-11): first.
2 (2026-11): spread_rel.
3 (2026-11): identities, identity_error_ratio; times, clocks, tags and memory of CUDA devices (time_kernel_ns to
    throttled_by, memory_reserved_bytes, memory_device_bytes).
"""

Status = Literal[
    "ok", "wrong", "unsupported", "unavailable", "out_of_memory", "timeout", "crashed", "error", "invalid", "skipped"
]
Stage = Literal["plan", "start", "load", "prepare", "call", "agreement", "time", "memory", "backend"]
FAILED: frozenset[str] = frozenset({"out_of_memory", "timeout", "crashed", "error"})
"""Statuses of cells that broke: exit code 4."""

JUDGED_TENSORS = ("out", "lse", "dq", "dk", "dv")


class Record(BaseModel):
    """One line of a run file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # who
    schema_version: int = SCHEMA_VERSION
    run_id: str
    record_id: str = Field(description="Unique within all runs.")
    case_id: str = Field(description="Names the case: equal cases have equal ids, on every machine.")
    implementation: str
    implementation_version: str | None = Field(None, description="Version of the distribution that it comes from.")
    source_hash: str | None = Field(
        None, description="SHA-256 of the implementation's source file, or of its package's, 12 digits."
    )
    replicate: int = Field(0, description="Which fresh worker process, from 0.")
    repro: str = Field(description="The shortest command that shows this cell again.")

    # case
    operator: str
    mode: str
    batch: int
    heads_q: int
    heads_kv: int
    seqlen_q: int
    seqlen_kv: int
    head_dim: int
    head_dim_v: int
    dtype: str
    mask: str
    alignment: str
    window_left: int | None = None
    window_right: int | None = None
    prefix_len: int | None = None
    document_lengths: tuple[int, ...] | None = None
    document_causal: bool | None = None
    kv_lengths: tuple[int, ...] | None = None
    score_mod: str
    softcap: float | None = None
    scale: float
    kv_cache: str
    page_size: int | None = None
    strides: str
    inputs: str
    seed: int
    layout: str | None = Field(None, description="Layout that the implementation declares: bhsd, bshd or packed.")
    device: str
    threads: int | None = Field(None, description="Threads that the worker was given, on the CPU.")
    cell_tags: tuple[str, ...] = Field((), description="Names of the scenario's shapes that this case came from.")

    # outcome
    status: Status
    stage: Stage | None = Field(None, description="Where a cell that is not ok ended.")
    reason: str | None = Field(None, description="One sentence: why the cell is not ok, or what limits it.")
    backend: str | None = Field(None, description="What really ran: the back end chosen, the kernel's name.")
    started_at: str | None = Field(None, description="UTC time at which the cell began, ISO 8601.")
    wall_s: float | None = Field(None, description="Seconds that the whole cell took, everything included.")

    # agreement; error over budget is the ratio, and ok means that every ratio is <= 1
    out_error_rel: float | None = Field(None, description="RMS of out - reference over RMS of the reference.")
    out_error_max: float | None = Field(None, description="Largest row error, relative to the row's norm.")
    out_error_budget: float | None = Field(None, description="What out_error_rel may be.")
    out_error_ratio: float | None = Field(None, description="The worst of all error / budget of this tensor.")
    out_error_worst: tuple[int, ...] | None = Field(None, description="Index (batch, head, row, column) of the worst.")
    lse_error_rel: float | None = None
    lse_error_max: float | None = None
    lse_error_budget: float | None = None
    lse_error_ratio: float | None = None
    lse_error_worst: tuple[int, ...] | None = None
    dq_error_rel: float | None = None
    dq_error_max: float | None = None
    dq_error_budget: float | None = None
    dq_error_ratio: float | None = None
    dq_error_worst: tuple[int, ...] | None = None
    dk_error_rel: float | None = None
    dk_error_max: float | None = None
    dk_error_budget: float | None = None
    dk_error_ratio: float | None = None
    dk_error_worst: tuple[int, ...] | None = None
    dv_error_rel: float | None = None
    dv_error_max: float | None = None
    dv_error_budget: float | None = None
    dv_error_ratio: float | None = None
    dv_error_worst: tuple[int, ...] | None = None
    rows_checked: int | None = Field(None, description="Rows of the output that were judged.")
    rows_total: int | None = Field(None, description="Rows that the output has.")
    deterministic: bool | None = Field(None, description="All calls on equal inputs gave bitwise equal outputs.")
    spread_rel: float | None = Field(
        None, description="RMS of the difference of two calls on equal inputs over RMS, the largest seen; 0 if equal."
    )
    identities: tuple[str, ...] | None = Field(
        None, description="Other ways to the same answer that were looked at, such as keys-in-another-order."
    )
    identity_error_ratio: float | None = Field(
        None, description="How far they are apart, over what rounding explains: the worst of them."
    )

    # time
    time_samples_ns: tuple[float, ...] | None = Field(None, description="Raw samples in order, per call.")
    time_median_ns: float | None = None
    time_ci_low_ns: float | None = Field(None, description="95 % confidence interval of the median (binomial).")
    time_ci_high_ns: float | None = None
    time_min_ns: float | None = None
    time_q1_ns: float | None = None
    time_q3_ns: float | None = None
    time_outliers: int | None = Field(None, description="Samples above q3 + 3 IQR; they are kept.")
    first_call_ns: int | None = Field(None, description="The first call of all: compilation, lazy set-up.")
    prepare_ns: int | None = Field(None, description="Masks, plans, compilation ahead of the first call.")
    warmup_calls: int | None = None
    warmup_converged: bool | None = Field(None, description="Medians of two successive windows within 2 %.")
    calls_per_sample: int | None = None
    time_method: str | None = None
    cache_state: str | None = Field(None, description="warm: inputs as the last call left them; cold: cache flushed.")
    time_graph_ns: float | None = Field(
        None, description="CUDA: one call of a graph over rotated inputs, without launches and gaps."
    )
    time_wall_ns: float | None = Field(None, description="CUDA: host's time from the call to the end of its work.")
    time_kernel_ns: float | None = Field(None, description="CUDA: kernels of one call added up, by the profiler.")
    graph_refused: str | None = Field(None, description="Why there is no time_graph_ns.")
    host_enqueue_ns: float | None = Field(None, description="CUDA: median of the host's time to queue a call.")
    launch_bound: bool | None = Field(None, description="CUDA: queueing takes the host longer than the device works.")
    sm_clock_mhz: tuple[int, ...] | None = Field(None, description="CUDA: SM clock while each sample ran.")
    time_sample_tags: tuple[str | None, ...] | None = Field(
        None, description="What disturbed each sample; null as a whole where nothing did."
    )
    throttled_by: tuple[str, ...] | None = Field(
        None, description="CUDA: what held the clock down during samples, in NVML's words."
    )
    involuntary_switches: int | None = Field(None, description="Context switches forced on the timed window.")
    major_faults: int | None = Field(None, description="Page faults that went to disk in the timed window.")
    steal_share: float | None = Field(None, description="Share of the timed window that the hypervisor gave to others.")

    # memory
    memory_peak_bytes: int | None = Field(None, description="Highest footprint of one call above what was there.")
    memory_output_bytes: int | None = Field(None, description="Bytes of what the call returns.")
    memory_workspace_bytes: int | None = Field(None, description="Peak less output.")
    memory_reserved_bytes: int | None = Field(None, description="CUDA: highest that torch's allocator took for a call.")
    memory_device_bytes: int | None = Field(
        None, description="CUDA: what the device had less after a call; shows what is allocated outside torch."
    )
    memory_method: str | None = None
    memory_resolution_bytes: int | None = Field(None, description="What the same method reads for an empty call.")

    # model
    flops: int | None = Field(None, description="Operations of the case, counted over the visible pairs.")
    bytes: int | None = Field(None, description="Each tensor read or written once.")
    tflops: float | None = Field(None, description="flops over time_median_ns.")
    gbytes_per_s: float | None = None
    peak_tflops: float | None = Field(None, description="Measured on this machine in this run, for this dtype.")
    peak_gbytes_per_s: float | None = None
    percent_of_peak: float | None = Field(None, description="tflops in percent of peak_tflops.")
    percent_of_roofline: float | None = Field(None, description="Roofline time over measured time, in percent.")
    bound: Literal["compute", "memory"] | None = Field(None, description="Which roof is lower for this case.")

    @model_validator(mode="after")
    def _states_are_legal(self) -> Self:
        if self.status != "ok" and self.time_median_ns is not None:
            raise ValueError(f"a cell with status {self.status!r} has no time")
        if self.status != "ok" and self.memory_peak_bytes is not None:
            raise ValueError(f"a cell with status {self.status!r} has no memory")
        if self.status != "ok" and not (self.reason and self.stage):
            raise ValueError(f"a cell with status {self.status!r} needs a stage and a reason")
        return self
