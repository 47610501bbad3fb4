"""The lines of a run file that are not records: the header before them, and a footer behind each sitting."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Header(BaseModel):
    """First line of a run file: what was asked for, on which machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["header"] = "header"
    schema_version: int
    run_id: str
    created_at: str = Field(description="UTC, ISO 8601.")
    attnbench_version: str
    command: list[str] = Field(description="The command line that asks for the same, word by word.")
    request: dict[str, Any] = Field(description="What was asked for; attnbench run --resume reads it back.")
    scenario: dict[str, Any] = Field(description="The scenario, with every default filled in.")
    environment: dict[str, Any] = Field(description="Machine and software; what is hidden or absent is null.")
    libraries: dict[str, Any] = Field(description="BLAS, OpenMP and torch's build, with their threads.")
    peaks: dict[str, dict[str, Any]] = Field(description="By device: tflops by dtype, gbytes_per_s, method, or failed.")
    machine_key: str = Field(description="Equal keys: the same kind of hardware.")
    seed: int
    devices: list[str]
    threads: int
    replicates: int
    implementations: dict[str, dict[str, Any]] = Field(description="Declaration, origin and version of each.")
    cells_planned: int = Field(description="Records that the complete run has.")

    @property
    def scenario_name(self) -> str:
        """The scenario's name, for titles."""
        return str(self.scenario.get("name", "unnamed"))

    @property
    def baseline(self) -> str | None:
        """The implementation that the scenario's speed-ups are relative to."""
        named = self.scenario.get("baseline")
        return None if named is None else str(named)


class Footer(BaseModel):
    """Last line of a sitting; a run that was resumed has several, one that was killed may have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["footer"] = "footer"
    wall_s: float
    shares: dict[str, float] = Field(description="Seconds, by what they were spent on: calls by kind, checking, rest.")
    counts: dict[str, int] = Field(default_factory=dict, description="Records of this sitting by status.")
    interrupted: bool
