"""The stages of a cell, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.stages import backend, call, energy, identities, memory, prepare, ranks
from attnbench.stages.agreement import Show
from attnbench.stages.profile import TakeProfile, TraceKernels
from attnbench.stages.time import extra_times, visits

if TYPE_CHECKING:
    from attnbench.stages.stage import WorkerRequest

CHECKED = (prepare.STAGE, call.STAGE, call.FRESH)
"""The stages of a check of agreement alone."""
STAGES = (
    prepare.STAGE,
    call.STAGE,
    visits.STAGE,
    extra_times.STAGE,
    call.FRESH,
    identities.STAGE,
    memory.STAGE,
    ranks.STAGE,
    energy.STAGE,
    backend.STAGE,
)
REQUESTS: tuple[type[WorkerRequest[Any]], ...] = (
    Show,
    TakeProfile,
    TraceKernels,
    *(request for stage in STAGES for request in stage.requests),
)
"""All requests that a worker serves."""
