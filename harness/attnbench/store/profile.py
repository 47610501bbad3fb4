"""A profile as it is stored: ``profile.json``, written by ``attnbench profile``. No view takes it for a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.errors import UsageError, first_mistake
from attnbench.profiling.parts import KernelsOfCall, Nanoseconds, Sampled
from attnbench.profiling.phases import Phase
from attnbench.store.header import Facts

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = "profile.json"
PROFILE_VERSION: Literal[1] = 1
_LARGEST_BYTES = 2**28


Duration = Annotated[float, Field(ge=1e-3, le=1e18)]
"""Nanoseconds: ratios are taken of it."""


class ProfileError(UsageError):
    """A profile cannot be read; one sentence."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PhaseTime(_Stored):
    """The time of a phase, in nanoseconds of a call: all threads together, divided by their number."""

    phase: Phase
    ns: Duration
    low_ns: Nanoseconds
    high_ns: Nanoseconds
    """The 95 % interval that follows from the number of samples."""
    floor_ns: Duration | None = None
    """The least time that this machine's measured peaks allow."""
    floor_from: str | None = None
    """How the floor is computed, as a sentence."""


class CellProfile(Sampled):
    """One case and one implementation."""

    implementation: str
    side: Literal["base", "head"] | None = None
    """Which of two compared revisions this is."""
    case: Facts
    case_id: str
    label: str
    device: str
    threads: int = Field(ge=1, le=10**6)
    status: str
    stage: str | None = None
    reason: str | None = None
    """Why there is no profile, or no whole one."""
    median_ns: Duration | None = None
    """Median time of a call in a process without a profiler; phases add up to it."""
    low_ns: Nanoseconds | None = None
    high_ns: Nanoseconds | None = None
    """Its 95 % interval."""
    slowdown: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Median call while it was sampled over the median of calls without, right before and after."""
    notes: tuple[str, ...] = ()
    """Reasons for what could not be told."""
    phases: tuple[PhaseTime, ...] = ()
    """Longest first; those that took no time are left out."""
    kernels: KernelsOfCall | None = None
    """Kernels of a call on a GPU."""

    def time_of(self, phase: Phase) -> float:
        """Nanoseconds of a phase; 0 where it was not seen."""
        return next((one.ns for one in self.phases if one.phase == phase), 0.0)


class Profile(_Stored):
    """All cells of ``attnbench profile``."""

    kind: Literal["attnbench profile"] = "attnbench profile"
    version: Literal[1] = PROFILE_VERSION
    created_utc: str
    attnbench: str
    command: str
    """The line that makes it again."""
    sides: dict[Literal["base", "head"], str] = Field(default_factory=dict)
    """The two revisions, where two were compared."""
    environment: Facts
    peaks: Facts
    cells: tuple[CellProfile, ...]


def write_profile(profile: Profile, folder: Path) -> None:
    """Write ``profile.json`` into a folder."""
    (folder / PROFILE).write_text(profile.model_dump_json(), encoding="utf-8")


def read_profile(path: Path) -> Profile:
    """Read a profile: its file, or the folder that it lies in.

    Raises:
        ProfileError: where it is none.
    """
    file = path / PROFILE if path.is_dir() else path
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise ProfileError(f"{file} is too large to be a profile")
        return Profile.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ProfileError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ProfileError(f"{file} is no profile: {first_mistake(error)}") from error
