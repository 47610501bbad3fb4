"""Lines of a history file: measurements of a cell at a revision, the software of a segment, confirmed changes.

Version of the lines, ``v``: 1 (2026-11): first.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, field_validator

from attnbench.untrusted.printable import in_one_line

Metric = Literal["time", "memory", "outcome"]
"""Metrics that are searched for changes and that the gate has verdicts on."""
CellName = tuple[str, str, str]
"""(case_id, implementation, device)"""

ALL = "all"
"""Replaces a case and an implementation in the name of the shift that all cells of a device share."""

Revision = Annotated[str, Field(pattern="^[0-9a-f]{7,64}$")]
Text = Annotated[str, Field(max_length=500)]
Facts = Annotated[dict[Text, Text], Field(max_length=100)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="after")
    @classmethod
    def _shows(cls, value: object, info: ValidationInfo) -> object:
        del info
        if isinstance(value, str):
            return in_one_line(value)
        if isinstance(value, dict):
            return {in_one_line(k): in_one_line(v) for k, v in value.items()}
        return value

    def text(self) -> str:
        """Return the stored line: keys sorted and ``None`` left out, so that equal lines have equal text."""
        return json.dumps(self.model_dump(exclude_none=True), sort_keys=True, separators=(",", ":"))


class _OfCell(_Line):
    """A line about one cell at one commit."""

    revision: Revision
    place: int = Field(ge=0, description="First parents before it: the same in every clone.")
    date: Text = Field(description="Of the commit, ISO 8601.")
    subject: Text
    case_id: Text
    implementation: Text
    device: Text
    label: Text

    @property
    def cell(self) -> CellName:
        """Name of the line's cell."""
        return self.case_id, self.implementation, self.device


class Point(_OfCell):
    """One cell at one revision, measured in the same rounds as the anchor."""

    kind: Literal["point"] = "point"
    v: Literal[1] = 1
    anchor: Revision = Field(description="What it was measured with; of an anchor's own line, itself.")
    segment: Text = Field(description="The software of the measurement: only points of one segment are compared.")
    sweep: Text = Field(description="Hash of the scenario and the selection that it was measured by.")
    code: Text = Field(description="Hash of the code that was measured: equal ones need not be measured again.")
    measured_at: Text
    status: Text
    rounds: int = Field(ge=0)
    log_ratio: Annotated[float, Field(ge=-50, le=50)] | None = Field(
        default=None, description="ln(revision / anchor) of times, from pairs of processes."
    )
    se: Annotated[float, Field(ge=0, le=50)] | None = Field(default=None, description="Standard error of log_ratio.")
    time_ns: Positive | None = Field(default=None, description="Median of the processes' medians; never judged.")
    memory_peak_bytes: int | None = Field(default=None, ge=0)
    memory_resolution_bytes: int | None = Field(default=None, ge=0)
    error_ratio: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Largest error over its budget, of all outputs."
    )
    first_call_ns: Positive | None = None


class Segment(_Line):
    """The software that points were measured in."""

    kind: Literal["segment"] = "segment"
    v: Literal[1] = 1
    segment: Text
    facts: Facts

    def differs_from(self, before: Segment) -> list[str]:
        """Return the differences from the segment before, such as ``torch 2.12.0 → 2.13.0``."""
        names = dict.fromkeys([*before.facts, *self.facts])
        return [
            f"{name} {before.facts.get(name, 'none')} → {self.facts.get(name, 'none')}"
            for name in names
            if before.facts.get(name) != self.facts.get(name)
        ]


class Change(_OfCell):
    """A change that the gate has confirmed on the two commits around it."""

    kind: Literal["change"] = "change"
    v: Literal[1] = 1
    before: Revision = Field(description="The commit that it was compared with.")
    metric: Metric
    verdict: Text = Field(description="The gate's: slower, bigger, wrong, lost, faster, smaller, gained.")
    sentence: Text
    ratio: Positive | None = None
    ratio_low: Positive | None = None
    ratio_high: Positive | None = None


Line = Annotated[Point | Segment | Change, Field(discriminator="kind")]
LINE: TypeAdapter[Point | Segment | Change] = TypeAdapter(Line)


def segment_of(facts: dict[str, str]) -> Segment:
    """Return the segment for the given software."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    return Segment(segment=digest, facts=facts)
