"""The stored form of a profile: ``profile.json``, written by ``attnbench profile``. Views do not read it as a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.errors import UsageError, first_mistake
from attnbench.profiling.parts import KernelsOfCall, Nanoseconds, Sampled
from attnbench.profiling.phases import Phase
from attnbench.store.header import Facts
from attnbench.untrusted.regular_file import read_regular

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = "profile.json"
PROFILE_VERSION: Literal[1] = 1
_LARGEST_BYTES = 2**28


Duration = Annotated[float, Field(ge=1e-3, le=1e18)]
"""Nanoseconds; excludes 0, since ratios are computed from it."""


class ProfileError(UsageError):
    """A profile cannot be read."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PhaseTime(_Stored):
    """Time of a phase in nanoseconds per call: all threads together, divided by their number."""

    phase: Phase
    ns: Duration
    low_ns: Nanoseconds
    high_ns: Nanoseconds
    """95 % interval that follows from the number of samples."""
    floor_ns: Duration | None = None
    """Least time that the machine's measured peaks allow."""
    floor_from: str | None = None
    """How the floor is computed, as a sentence."""


class CellProfile(Sampled):
    """Profile of one case and one implementation."""

    implementation: str
    side: Literal["base", "head"] | None = None
    """Which of two compared revisions it belongs to, if two were compared."""
    case: Facts
    case_id: str
    label: str
    device: str
    threads: int = Field(ge=1, le=10**6)
    status: str
    stage: str | None = None
    reason: str | None = None
    """Why there is no profile, or only a partial one."""
    median_ns: Duration | None = None
    """Median time of a call in a process without a profiler; phases add up to it."""
    low_ns: Nanoseconds | None = None
    high_ns: Nanoseconds | None = None
    """95 % interval of the median."""
    slowdown: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Median call while sampled, over the median of calls right before and after without sampling."""
    notes: tuple[str, ...] = ()
    """Figures that could not be determined, and why."""
    phases: tuple[PhaseTime, ...] = ()
    """Longest first; phases without time are left out."""
    kernels: KernelsOfCall | None = None
    """Kernels of a call on a GPU."""

    def time_of(self, phase: Phase) -> float:
        """Return the nanoseconds of a phase; 0 if it was not seen."""
        return next((one.ns for one in self.phases if one.phase == phase), 0.0)


class Profile(_Stored):
    """All cells of an ``attnbench profile`` command."""

    kind: Literal["attnbench profile"] = "attnbench profile"
    version: Literal[1] = PROFILE_VERSION
    created_utc: str
    attnbench: str
    command: str
    """The command line that makes the profile again."""
    sides: dict[Literal["base", "head"], str] = Field(default_factory=dict)
    """The two revisions, if two were compared."""
    environment: Facts
    peaks: Facts
    cells: tuple[CellProfile, ...]


def write_profile(profile: Profile, folder: Path) -> None:
    """Write ``profile.json`` into a folder."""
    (folder / PROFILE).write_text(profile.model_dump_json(), encoding="utf-8")


def read_profile(path: Path) -> Profile:
    """Read a profile from its file or from the folder that contains it.

    Raises:
        ProfileError: if it is unreadable or malformed.
    """
    file = path / PROFILE if path.is_dir() else path
    try:
        return Profile.model_validate_json(read_regular(file, _LARGEST_BYTES))
    except OSError as error:
        raise ProfileError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ProfileError(f"{file} is no profile: {first_mistake(error)}") from error
