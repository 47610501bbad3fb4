"""Lines of a run file other than records: the header, parts, and a footer after each sitting."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from attnbench.machine.pace.peaks import require_rates
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Facts = dict[str, Any]
"""A table of facts whose keys vary between versions; views show all of it."""

_NOUNS: dict[type, str] = {str: "a text", dict: "a table", list: "a list"}
_ENVIRONMENT = {"cpu_model": str, "gpus": list, "git": dict, "versions": dict}
_IMPLEMENTATION = {"source_hash": str, "version": str, "declaration": dict, "origin": dict}
_DECLARATION = {"framework": str, "layout": str, "memory": str}
_ORIGIN = {"kind": str, "target": str}


def _require(table: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Raise unless the entries that views read have these types or are absent; other entries are allowed."""
    for name, kind in kinds.items():
        if table.get(name) is not None and not isinstance(table[name], kind):
            raise ValueError(f"{name} is {shown(table[name])}, not {_NOUNS[kind]}")


def _environment(table: Facts) -> Facts:
    _require(table, _ENVIRONMENT)
    return table


def _implementation(table: Facts) -> Facts:
    _require(table, _IMPLEMENTATION)
    _require(table.get("declaration") or {}, _DECLARATION)
    _require(table.get("origin") or {}, _ORIGIN)
    return table


def _peaks(table: dict[str, Facts]) -> dict[str, Facts]:
    for peaks in table.values():
        require_rates(peaks)
    return table


Environment = Annotated[Facts, AfterValidator(_environment)]
About = Annotated[Facts, AfterValidator(_implementation)]
AllPeaks = Annotated[dict[str, Facts], AfterValidator(_peaks)]


class Part(BaseModel):
    """One machine's part of a run that several machines share; its records have its ``run_id``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    created_at: str = Field(description="UTC, ISO 8601.")
    shard: str | None = Field(
        default=None, description="Which part of the plan, K/N; null where cases went to who was free."
    )
    environment: Environment = Field(description="Machine and software, as in a header.")
    libraries: Facts = Field(description="BLAS, OpenMP and torch's build, with their threads.")
    peaks: AllPeaks = Field(description="By device, as in a header.")
    machine_key: str | None = Field(default=None, description="As in a header; null: the header's.")
    threads: int | None = Field(default=None, description="As in a header; null: the header's.")
    place: str | None = Field(default=None, description="Node and device, where an engine reached the machine.")
    aa_ratio: float | None = Field(
        default=None, description="There, time of a cell over its own in another process, in turns."
    )
    engine_cores: float | None = Field(
        default=None, description="Cores that the engine's own processes kept busy meanwhile."
    )


class Header(BaseModel):
    """First line of a run file: the request, and the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["header"] = "header"
    schema_version: int
    run_id: str
    created_at: str = Field(description="UTC, ISO 8601.")
    attnbench_version: str
    command: list[str] = Field(description="The command line that asks for the same, word by word.")
    request: Facts = Field(description="What was asked for; attnbench run --resume reads it back.")
    scenario: Facts = Field(description="The scenario, with every default filled in.")
    environment: Environment = Field(description="Machine and software; what is hidden or absent is null.")
    libraries: Facts = Field(description="BLAS, OpenMP and torch's build, with their threads.")
    peaks: AllPeaks = Field(description="By device: tflops by dtype, gbytes_per_s, method, or failed.")
    machine_key: str = Field(description="Equal keys: the same kind of hardware.")
    seed: int
    devices: list[str]
    threads: int
    replicates: int
    implementations: dict[str, About] = Field(description="Declaration, origin and version of each.")
    cells_planned: int = Field(ge=0, description="Records that the complete run has.")
    parts: list[Part] = Field(
        default_factory=list, description="Of a run that several machines share: what each measured."
    )

    @property
    def scenario_name(self) -> str:
        """The scenario's name, for titles."""
        return str(self.scenario.get("name", "unnamed"))

    @property
    def command_line(self) -> str:
        """The equivalent command line; it always begins with attnbench, whatever the file says."""
        return shlex.join(["attnbench", *self.command[1:]])

    @property
    def machine_keys(self) -> dict[str, str]:
        """Machine key of each part, by the ``run_id`` of its records; other records have the header's."""
        return {part.run_id: part.machine_key or self.machine_key for part in self.parts}

    @property
    def gpus(self) -> list[str]:
        """Names of all GPUs, used or not."""
        return [str(gpu.get("name")) for gpu in self.environment.get("gpus") or [] if isinstance(gpu, dict)]

    @property
    def machines(self) -> list[str]:
        """Names of the processor and the GPUs that the run used."""
        used = self.gpus if any(device != "cpu" for device in self.devices) else []
        processor = str(self.environment.get("cpu_model") or "a CPU")
        return [processor, *used] if "cpu" in self.devices or not used else used

    def plugin_of(self, implementation: str) -> str | None:
        """Return the plug-in file that an implementation comes from, or ``None`` if it is not from one."""
        origin = self.implementations.get(implementation, {}).get("origin") or {}
        return origin.get("target") if origin.get("kind") == "file" else None

    @property
    def baseline(self) -> str | None:
        """The implementation that the scenario's speed-ups are relative to."""
        named = self.scenario.get("baseline")
        return None if named is None else str(named)


class Footer(BaseModel):
    """Last line of a sitting; a resumed run has several, a killed one may have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["footer"] = "footer"
    wall_s: float
    shares: dict[str, float] = Field(description="Seconds, by what they were spent on: calls by kind, checking, rest.")
    counts: dict[str, int] = Field(default_factory=dict, description="Records of this sitting by status.")
    interrupted: bool


CHECKING = {
    "repeats_s": "calls to be judged",
    "shown_s": "copies",
    "oracle_s": "oracle",
    "identities_s": "identities",
}
"""Time spent only on checking results: keys of a footer's shares, and their names."""
TIMING = {"first_calls_s": "first calls", "warmup_s": "warm-up", "samples_s": "samples", "memory_s": "memory"}
"""Time spent on the figures: prepare and first calls, warm-up, timed samples, calls whose memory is measured."""


def checking_sentence(shares: Iterable[Mapping[str, float]]) -> str | None:
    """Return ``checking 9.1 s (...), 14 % of timing, which took 65.0 s (...)``, summed over all sittings of a run.

    ``None`` if nothing was timed, or the run is from a version that did not record these shares.
    """
    sittings = list(shares)
    if not sittings or not all({*CHECKING, *TIMING} <= one.keys() for one in sittings):
        return None
    spent = {key: sum(one[key] for one in sittings) for key in (*CHECKING, *TIMING)}
    if spent["samples_s"] <= 0:
        return None
    checking, timing = sum(spent[key] for key in CHECKING), sum(spent[key] for key in TIMING)
    return (
        f"checking {checking:.1f} s ({_parts(spent, CHECKING)}), {100 * checking / timing:.0f} % of timing, which "
        f"took {timing:.1f} s ({_parts(spent, TIMING)})"
    )


def _parts(spent: Mapping[str, float], names: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {spent[key]:.1f} s" for key, name in names.items())
