"""Records: the outcome of one cell in one worker process.

Flat, immutable and versioned. Names include units; absent values are ``None``, never 0 or -1. The descriptions below
document the file format: ``attnbench schema record`` prints them as a JSON Schema.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from attnbench.cases.case import FIELDS, Case
from attnbench.errors import first_mistake
from attnbench.metrics.metric import Metric, metrics_of
from attnbench.metrics.roofline import RooflineMetrics
from attnbench.stages.agreement import AgreementMetrics
from attnbench.stages.backend import BackendMetrics
from attnbench.stages.call import CallMetrics
from attnbench.stages.energy import EnergyMetrics
from attnbench.stages.identities import IdentityMetrics
from attnbench.stages.memory import MemoryMetrics
from attnbench.stages.prepare import PrepareMetrics
from attnbench.stages.ranks import RankMetrics
from attnbench.stages.time.extra_times import ExtraTimeMetrics
from attnbench.stages.time.heartbeat import HeartbeatMetrics
from attnbench.stages.time.metrics import TimeMetrics
from attnbench.stages.time.sampled_rows import SampledRowMetrics
from attnbench.untrusted.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 9
"""History of the format; every version has a golden file in tests/store/golden/.

1 (2026-11): first.
2 (2026-11): spread_rel.
3 (2026-11): identities, identity_error_ratio; times, clocks, tags and memory of CUDA devices (time_kernel_ns to
    throttled_by, memory_reserved_bytes, memory_device_bytes).
4 (2026-11): tree_parents; a mask may be an intersection.
5 (2026-11): energy_joules, energy_refused.
6 (2026-11): stores_scores; the status undecided.
7 (2026-11): noticed_row_error, noticed_weight_share, noticed_dropped_keys, sample_error_ratio, memory_held_bytes;
    time_visits, time_visits_left_out, heartbeat_ns, machine_drift: with visits, time_ci_low_ns and time_ci_high_ns are
    theirs.
8 (2026-11): mask_file, bias_file, inputs_layout: tensors of files; the header of a merged run has its parts.
9 (2026-11): kv_starts, mask_block_size, mask_blocks, kv_dtype, requests; score_mod may be several, and sizes may be 0;
    quantisation_error_rel, tokens_per_s; ranks, ranks_compute_ns to ranks_sent_bytes; part lines, with a machine key,
    threads and what an engine costs; bias_grad, dbias_error_rel to dbias_error_worst; dropout.
"""

Status = Literal[
    "ok", "wrong", "undecided", "unsupported", "unavailable", "out_of_memory", "timeout", "crashed", "error", "invalid",
    "skipped",
]  # fmt: skip
Stage = Literal["plan", "start", "load", "prepare", "call", "agreement", "time", "memory", "ranks", "energy", "backend"]
FAILED: frozenset[str] = frozenset({"out_of_memory", "timeout", "crashed", "error"})
"""Statuses of cells that failed: exit code 4."""
DISTURBED: frozenset[str] = frozenset({"invalid", "skipped"})
"""Statuses of processes that were disturbed, or skipped for lack of time: they do not contradict the others."""

Fields = dict[str, Any]
"""A record as read from JSON: every field of :class:`Record` by name."""
CellKey = tuple[str, str, str]
"""(case_id, implementation, device)"""


class WhichCell(BaseModel):
    """Identity of the cell and its run."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    record_id: str = Field(description="Unique within all runs.")
    case_id: str = Field(description="Names the case: equal cases have equal ids, on every machine.")
    implementation: str
    implementation_version: str | None = Field(None, description="Version of the distribution that it comes from.")
    source_hash: str | None = Field(
        None,
        description="SHA-256 of its source, 12 digits: of the module or package, of a plug-in with what it imports.",
    )
    replicate: int = Field(0, description="Which fresh worker process, from 0.")
    repro: str = Field(description="The shortest command that shows this cell again.")


def _case_fields() -> dict[str, Any]:
    """Return every field of a case; those that not every problem uses are ``None`` by default."""
    hints = get_type_hints(Case)
    return {
        field.name: (hints[field.name], None if type(None) in get_args(hints[field.name]) else ...)
        for field in dataclasses.fields(Case)
    }


if TYPE_CHECKING:

    class CaseFields(BaseModel):
        """Every field of :class:`attnbench.cases.case.Case`."""

else:
    CaseFields = create_model("CaseFields", **_case_fields())


class Surroundings(BaseModel):
    """Surroundings of a cell: device, threads, ranks, the implementation's layout."""

    layout: str | None = Field(None, description="Layout that the implementation declares: bhsd, bshd or packed.")
    device: str
    threads: int | None = Field(None, description="Threads that the worker was given, on the CPU.")
    ranks: int | None = Field(None, description="Processes that shared the call's tokens, where the worker is several.")
    cell_tags: tuple[str, ...] = Field((), description="Names of the scenario's shapes that this case came from.")


class Ending(BaseModel):
    """Outcome of the cell."""

    status: Status
    stage: Stage | None = Field(None, description="Where a cell that is not ok ended.")
    reason: str | None = Field(None, description="One sentence: why the cell is not ok, or what limits it.")
    started_at: str | None = Field(None, description="UTC time at which the cell began, ISO 8601.")
    wall_s: float | None = Field(None, description="Seconds that the whole cell took, everything included.")


# With several bases, pydantic puts the last one's fields first.
class CellMetrics(
    RooflineMetrics,
    EnergyMetrics,
    RankMetrics,
    MemoryMetrics,
    ExtraTimeMetrics,
    HeartbeatMetrics,
    TimeMetrics,
    SampledRowMetrics,
    IdentityMetrics,
    AgreementMetrics,
    CallMetrics,
    PrepareMetrics,
    BackendMetrics,
):
    """Every metric of a cell: of one process in a record, joined over all processes in views."""


class Record(CellMetrics, Ending, Surroundings, CaseFields, WhichCell):
    """One line of a run file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _states_are_legal(self) -> Self:
        if self.status == "ok":
            return self
        if not (self.reason and self.stage):
            raise ValueError(f"a cell with status {self.status!r} needs a stage and a reason")
        for one in METRICS.values():
            if one.only_ok and getattr(self, one.name) is not None:
                raise ValueError(f"a cell with status {self.status!r} has no {one.title} ({one.name})")
        return self


def key_of(record: Fields) -> CellKey:
    """Return the key of a record's cell."""
    return record["case_id"], record["implementation"], record["device"]


def case_of(record: Fields) -> Case:
    """Return the case of a record, with JSON's lists turned back into tuples."""
    found: Fields = {name: tuple(v) if isinstance(v := record[name], list) else v for name in FIELDS}
    return Case(**found)


METRICS: dict[str, Metric] = {one.name: one for one in metrics_of(CellMetrics)}
"""All metrics by name, in the order of the record's fields."""


def record_of(values: Mapping[str, Any]) -> Record:
    """Make a record of a cell's values; if they do not fit one, its status is ``error`` and it has no metrics."""
    values = {name: printable(value) if isinstance(value, str) else value for name, value in values.items()}
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        mistake = first_mistake(error)
    kept = {name: value for name, value in values.items() if name not in METRICS}
    stage = kept.get("stage") or "agreement"
    reason = f"what was measured makes no record: {mistake}"
    return Record.model_validate({**kept, "status": "error", "stage": stage, "reason": reason})
