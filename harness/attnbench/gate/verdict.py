"""Verdicts and results of a gate as data: the content of ``gate.json``, described by ``attnbench schema gate``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2
"""1 (2026-11): first. 2: metric ``exponent`` with ``of`` and intervals, verdicts ``steeper`` and ``flatter``."""

Name = Literal[
    "same", "slower", "faster", "ambiguous", "not_measured", "not_comparable", "invalid",
    "bigger", "smaller", "wrong", "lost", "gained", "steeper", "flatter",
]  # fmt: skip
Metric = Literal["time", "memory", "exponent", "outcome"]

REGRESSED: frozenset[Name] = frozenset({"slower", "bigger", "steeper", "wrong", "lost"})
UNDECIDED: frozenset[Name] = frozenset({"ambiguous", "not_comparable", "invalid"})

EXIT_OK, EXIT_REGRESSED, EXIT_FAILED, EXIT_MISSING, EXIT_UNDECIDED = 0, 1, 4, 5, 6


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Waived(_Data):
    """The waiver that excuses a failing verdict."""

    issue: str
    reason: str
    expires: str = Field(description="Last day on which it holds, ISO 8601.")
    ceiling: float | None = Field(
        description="Largest change that it forgives, as a share of base (of exponents a difference); null of outcomes."
    )


class Verdict(_Data):
    """The gate's verdict on one metric of one cell."""

    case_id: str | None = Field(description="null for what all cells have in common.")
    implementation: str | None
    device: str
    label: str = Field(description="Implementation and case, for people.")
    metric: Metric
    of: Literal["time", "memory"] | None = Field(
        default=None, description="What grows; of an exponent only, which is filed under its series' longest case."
    )
    verdict: Name
    sentence: str = Field(description="One plain sentence: what was found, and how sure it is.")
    base: float | None = Field(default=None, description="Nanoseconds, bytes or an exponent, by the metric.")
    head: float | None = None
    base_low: float | None = Field(default=None, description="95 % interval of an exponent.")
    base_high: float | None = None
    head_low: float | None = None
    head_high: float | None = None
    ratio: float | None = Field(
        default=None, description="Head over base; of times, the estimate from pairs of processes."
    )
    ratio_low: float | None = Field(default=None, description="95 % confidence interval of the ratio.")
    ratio_high: float | None = None
    delta: float | None = Field(
        default=None, description="What is tolerated: a share of base; of an exponent, the difference."
    )
    p: float | None = Field(default=None, description="One-sided, against delta, in the direction of the estimate.")
    q: float | None = Field(default=None, description="False discovery rate; only of suspects, from fresh pairs.")
    detectable: float | None = Field(
        default=None, description="Smallest slow-down that nineteen gates of twenty would find."
    )
    noise_sd: float | None = Field(default=None, description="Of the log ratio of one pair of processes, moderated.")
    pairs: int | None = Field(default=None, description="Pairs of fresh processes that the estimate rests on.")
    failed: bool = Field(default=False, description="A side crashed, timed out, ran out of memory or raised.")
    waived: Waived | None = None
    repro: str | None = Field(default=None, description="The command that shows this cell again.")

    @property
    def regressed(self) -> bool:
        """Whether the verdict fails the gate."""
        return self.verdict in REGRESSED and self.waived is None


class SideFacts(_Data):
    """One side of a gate."""

    label: str
    kind: str
    commit: str | None
    identity: str = Field(description="Hash of the code that was measured.")
    dependencies: str
    sources: dict[str, str | None] = Field(default_factory=dict, description="Source hash of each implementation.")


class RoundFacts(_Data):
    """The two runs of a round."""

    stage: str
    number: int
    first: str
    base: str = Field(description="Run file, relative to the gate's folder.")
    head: str


class GateResult(_Data):
    """The result of a gate."""

    kind: Literal["gate"] = "gate"
    schema_version: int = SCHEMA_VERSION
    created_at: str
    attnbench_version: str
    command: list[str]
    mode: Literal["pairs", "baseline"] = Field(description="Fresh pairs, or a stored baseline.")
    scenario: str
    machine_key: str | None
    base: SideFacts
    head: SideFacts
    rules: dict[str, float]
    calibration: str | None = Field(default=None, description="The calibration whose noise floors were used.")
    rounds: list[RoundFacts]
    common: list[Verdict] = Field(description="What all cells of a device have in common, tested by itself.")
    verdicts: list[Verdict]
    unsupported: int = Field(description="Cells that both sides refuse or lack in the same way; they are not judged.")
    identical: bool = Field(description="Both sides are the same code: nothing was measured.")
    problems: list[str] = Field(default_factory=list, description="What fails the gate beside verdicts.")
    notes: list[str] = Field(default_factory=list, description="What a reader must know; one sentence each.")
    wall_s: float

    @property
    def all_verdicts(self) -> list[Verdict]:
        """Verdicts on all cells, and on the change that all cells share."""
        return [*self.common, *self.verdicts]

    @property
    def judged(self) -> list[Verdict]:
        """Verdicts on cells that were ok on both sides: on time, on memory, or on agreement alone."""
        return [
            one
            for one in self.verdicts
            if one.verdict != "not_measured" and (one.metric != "outcome" or one.verdict == "same")
        ]

    @property
    def exit_code(self) -> int:
        """0 ok, 1 regressed, 4 cells failed, 5 nothing measured or cells missing, 6 undecided."""
        every = self.all_verdicts
        absent = [one for one in every if one.verdict == "not_measured"]
        if self.problems or any(one.regressed for one in every):
            return EXIT_REGRESSED
        if any(one.failed for one in absent):
            return EXIT_FAILED
        if absent or not (self.judged or self.identical):
            return EXIT_MISSING
        if any(one.verdict in UNDECIDED for one in every):
            return EXIT_UNDECIDED
        return EXIT_OK

    @property
    def sentence(self) -> str:
        """A summary of the gate in one or two sentences."""
        if self.identical:
            return "Both sides are the same code: there is nothing to compare, and nothing was measured."
        counts: dict[str, int] = {}
        for one in self.all_verdicts:
            name = f"{one.verdict} (waived)" if one.waived else one.verdict
            counts[name] = counts.get(name, 0) + 1
        said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()) or "no verdict"
        times = [one.detectable for one in self.verdicts if one.metric == "time" and one.detectable is not None]
        if not times:
            return f"No time was judged: {said}."
        ordered = sorted(times)
        middle, worst = ordered[len(ordered) // 2], ordered[-1]
        return (
            f"Verdicts: {said}. A slow-down of {100 * middle:.1f} % would have been found in half of the "
            f"{len(times)} times, of {100 * worst:.1f} % in all."
        )
