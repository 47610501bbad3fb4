"""Identities: other ways to compute the same answer, which need no reference."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from attnbench.cases.inputs.sample_inputs import Inputs
from attnbench.identities.identity import Allowance, Finding
from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.transport.message import AnswerMessage, CaseField, RequestMessage

if TYPE_CHECKING:
    from attnbench.worker.worker import Worker

_PREPARE_NS = 2e9
"""Identities that need a call of another case are left out if preparing takes longer than this."""


class IdentityMetrics(Metrics, stage="identities"):
    """Differences between other ways to compute the answer and the answer itself."""

    identities: tuple[str, ...] | None = metric(
        "identities",
        "Other ways to the same answer that were looked at, such as keys-in-another-order.",
        unit="text",
        join="union",
    )
    identity_error_ratio: float | None = metric(
        "identity error / budget",
        "How far they are apart, over what rounding explains: the worst of them.",
        unit="ratio",
        join="max",
        better="lower",
    )


class Findings(AnswerMessage):
    """The findings on identities."""

    found: dict[str, tuple[Finding, ...]]
    """Findings by identity."""
    left_out: dict[str, str]
    """Reason why an identity was not checked, by identity."""


class CheckIdentities(WorkerRequest[Findings]):
    """Recompute the latest result in other ways, cheap ones first, within an allowance, and compare all rows."""

    allowance: Allowance

    def serve(self, worker: Worker) -> Findings:
        from attnbench.worker.identities import check_identities

        found, left_out = check_identities(worker.session, self.allowance)
        return Findings(found={name: tuple(findings) for name, findings in found.items()}, left_out=left_out)


class IdentityVerdict(AnswerMessage):
    """The oracle's verdict on the findings."""

    problem: str | None
    """A sentence on the worst identity that does not hold, or ``None``."""
    ratios: dict[str, float]
    """Largest error over its budget, by identity."""
    oracle_ns: int = 0


class JudgeIdentities(RequestMessage[IdentityVerdict]):
    """Ask the oracle for its verdict on the findings."""

    case: CaseField
    inputs: Inputs
    stores_scores: bool
    found: dict[str, tuple[Finding, ...]]


def run(cell: CellRun) -> None:
    """Check identities on the latest result, which has passed the oracle's check.

    If time is measured, identities may take a quarter of the time of warm-up and samples, and prepare no other case.
    """
    timed, left_ns = cell.limits.timed, cell.left_s * 1e9
    allowance = Allowance(
        time_ns=min(left_ns, (cell.spent.warmup + cell.spent.samples) / 4) if timed else left_ns / 2,
        memory_bytes=(cell.limits.memory_bytes or math.inf) / 2,
        prepare_ns=0 if timed else _PREPARE_NS,
    )
    asked = time.monotonic()
    answer = cell.ask(CheckIdentities(allowance=allowance))
    cell.spent.identities += 1e9 * (time.monotonic() - asked)
    if not answer.found:
        return
    verdict = cell.ask_oracle(
        JudgeIdentities(case=cell.case, inputs=cell.inputs, stores_scores=cell.stores_scores, found=answer.found)
    )
    cell.spent.oracle += verdict.oracle_ns
    worst = max(verdict.ratios.values(), default=None)
    # Infinite if one way gives NaN and the other does not: then the sentence reports it, and no number is kept.
    ratio = worst if worst is not None and math.isfinite(worst) else None
    cell.keep(IdentityMetrics(identities=tuple(sorted(verdict.ratios)), identity_error_ratio=ratio))
    if verdict.problem:
        cell.end("wrong", verdict.problem)


STAGE = Stage(name="agreement", requests=(CheckIdentities,), run=run)
