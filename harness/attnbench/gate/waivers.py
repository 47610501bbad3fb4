"""Waivers: known regressions that are accepted, cell by cell, until a date.

.. code-block:: toml

    [[waiver]]
    case_id = "6f3c1a2b9d10"          # the exact cell; see gate.json or gate.md
    implementation = "naive/torch"
    metric = "time"                   # time, memory, exponent or outcome
    ceiling = "8%"                    # a larger change still fails; not for an outcome
    # verdict = "wrong"               # for an outcome, instead of a ceiling; "lost" by default
    expires = 2026-12-31              # the last valid day; after it the waiver itself fails the gate
    issue = "https://example.org/issues/12"
    reason = "The safe softmax costs one more pass until the fused one lands."
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from attnbench.errors import UsageError
from attnbench.gate.verdict import REGRESSED, Verdict, Waived
from attnbench.sweep.nearest import unknown
from attnbench.untrusted.toml_text import parse_toml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from attnbench.gate.verdict import GateResult


MOST = 10.0
"""No waiver accepts a time eleven times as long, or an exponent larger by more than ten."""


class WaiverError(UsageError):
    """A file of waivers is malformed; the message lists every mistake."""


def _as_share(value: object) -> object:
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f'{value!r} is no share: write "8%" or 0.08') from None
    return value


class Waiver(BaseModel):
    """One accepted regression."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case_id: str = Field(min_length=1)
    implementation: str = Field(min_length=1)
    metric: Literal["time", "memory", "exponent", "outcome"]
    of: Literal["time", "memory"] | None = None
    """The quantity that grows; for metric exponent only."""
    device: str = "cpu"
    verdict: Literal["lost", "wrong"] | None = None
    """The outcome that it excuses; for metric outcome only, ``lost`` by default."""
    ceiling: Annotated[float | None, BeforeValidator(_as_share), Field(gt=0, le=MOST, allow_inf_nan=False)] = None
    expires: datetime.date
    issue: str = Field(min_length=1)
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _has_a_ceiling(self) -> Self:
        if self.metric != "outcome" and self.ceiling is None:
            raise ValueError(f"a waiver of {self.metric} needs a ceiling: the largest change that it forgives")
        if (self.metric == "exponent") != (self.of is not None):
            raise ValueError('of = "time" or "memory" goes with the metric exponent, and with no other')
        if self.verdict is not None and self.metric != "outcome":
            raise ValueError("verdict goes with the metric outcome, and with no other")
        if self.ceiling is not None and self.metric == "outcome":
            raise ValueError("an outcome has no ceiling")
        return self

    def matches(self, one: Verdict) -> bool:
        """Whether the waiver is for this verdict's cell and metric, and for an outcome also for this verdict."""
        cell = (self.case_id, self.implementation, self.device, self.metric, self.of)
        if cell != (one.case_id, one.implementation, one.device, one.metric, one.of):
            return False
        return self.metric != "outcome" or one.verdict == (self.verdict or "lost")

    def covers(self, one: Verdict) -> bool:
        """Whether the change is within the waiver's ceiling."""
        if self.ceiling is None:
            return True
        if self.metric == "exponent":
            return one.base is not None and one.head is not None and one.head - one.base <= self.ceiling
        return one.ratio is not None and one.ratio - 1 <= self.ceiling

    @property
    def ceiling_in_words(self) -> str:
        """The ceiling for display: a share in percent, a difference of exponents as a number."""
        ceiling = self.ceiling or 0.0
        return f"{ceiling:g}" if self.metric == "exponent" else f"{100 * ceiling:.3g} %"

    def __str__(self) -> str:
        """Name the metric, the implementation and the case."""
        metric = f"{self.metric} of {self.of}" if self.of else self.metric
        return f"{metric} of {self.implementation}, case {self.case_id}"


def read_waivers(path: Path) -> list[Waiver]:
    """Read a file of waivers.

    Raises:
        WaiverError: if the file is unreadable or malformed; lists every mistake with its place.
    """
    try:
        table = parse_toml(path.read_bytes())
    except OSError as error:
        raise WaiverError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WaiverError(f"{path} is not TOML: {error}") from error
    unknown = sorted(table.keys() - {"waiver"})
    entries: Any = table.get("waiver", [])
    if unknown or not isinstance(entries, list):
        raise WaiverError(
            f"{path} holds tables [[waiver]] and nothing else" + (f", not {', '.join(unknown)}" if unknown else "")
        )
    waivers, mistakes = [], []
    for number, entry in enumerate(entries, start=1):
        try:
            waivers.append(Waiver.model_validate(entry))
        except ValidationError as error:
            mistakes += [f"waiver {number}{_mistake(one)}" for one in error.errors()]
    if mistakes:
        raise WaiverError(f"{path}: " + "; ".join(mistakes))
    return waivers


def _mistake(one: ErrorDetails) -> str:
    place = ".".join(str(part) for part in one["loc"])
    if one["type"] == "missing":
        return f" has no {place}"
    if one["type"] == "extra_forbidden":
        return f", {place}: {unknown('key', place, Waiver.model_fields)}"
    return f"{f', {place}' if place else ''}: {one['msg'].removeprefix('Value error, ')}"


def apply_waivers(result: GateResult, waivers: Sequence[Waiver], today: datetime.date) -> GateResult:
    """Return the result with waived regressions marked.

    An expired waiver fails the gate even if its cell no longer does; a waiver that excuses nothing gets a note.
    """
    problems = [
        f"The waiver of {waiver} expired on {waiver.expires}: mend it or renew it ({waiver.issue})."
        for waiver in waivers
        if waiver.expires < today
    ]
    valid = [waiver for waiver in waivers if waiver.expires >= today]
    used: set[int] = set()
    verdicts = []
    for one in result.verdicts:
        waiver = next((w for w in valid if w.matches(one)), None) if one.verdict in REGRESSED else None
        if waiver is None:
            verdicts.append(one)
            continue
        used.add(id(waiver))
        if waiver.covers(one):
            told = waiver.model_dump(mode="json", include={"issue", "reason", "expires", "ceiling"})
            verdicts.append(one.model_copy(update={"waived": Waived(**told)}))
        else:
            sentence = f"{one.sentence}; more than the {waiver.ceiling_in_words} that its waiver forgives"
            verdicts.append(one.model_copy(update={"sentence": sentence}))
    notes = [
        f"The waiver of {waiver} forgives nothing: remove it ({waiver.issue})."
        for waiver in valid
        if id(waiver) not in used and not result.identical
    ]
    return result.model_copy(
        update={"verdicts": verdicts, "problems": [*result.problems, *problems], "notes": [*result.notes, *notes]}
    )
