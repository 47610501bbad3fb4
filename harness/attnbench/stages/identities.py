"""Identities: other ways to the same answer, which need no reference."""

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
"""A case that takes longer than this to compile is not compiled again for identities' other cases."""


class IdentityMetrics(Metrics, stage="identities"):
    """How far other ways to the same answer are from it."""

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
    """The findings of other ways to the answer."""

    found: dict[str, tuple[Finding, ...]]
    """By identity."""
    left_out: dict[str, str]
    """By identity, why it was not checked."""


class CheckIdentities(WorkerRequest[Findings]):
    """Compute the latest result in other ways, compared over all rows, cheap ones first, within an allowance."""

    allowance: Allowance

    def serve(self, worker: Worker) -> Findings:
        from attnbench.worker.identities import check_identities

        found, left_out = check_identities(worker.session, self.allowance)
        return Findings(found={name: tuple(findings) for name, findings in found.items()}, left_out=left_out)


class IdentityVerdict(AnswerMessage):
    """The oracle's verdict on them."""

    problem: str | None
    """A sentence on the worst identity that does not hold, or ``None``."""
    ratios: dict[str, float]
    """By identity, its largest error over what that may be."""
    oracle_ns: int = 0


class JudgeIdentities(RequestMessage[IdentityVerdict]):
    """Ask the oracle for its verdict."""

    case: CaseField
    inputs: Inputs
    stores_scores: bool
    found: dict[str, tuple[Finding, ...]]


def run(cell: CellRun) -> None:
    """Check other ways to the latest result, which agreed as far as it was judged.

    Where time is measured only what is cheap beside it: a quarter of warm-up and samples, and no other case.
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
    # Infinite where one way gives NaN and the other does not: the sentence tells, and no number is kept.
    ratio = worst if worst is not None and math.isfinite(worst) else None
    cell.keep(IdentityMetrics(identities=tuple(sorted(verdict.ratios)), identity_error_ratio=ratio))
    if verdict.problem:
        cell.end("wrong", verdict.problem)


STAGE = Stage(name="agreement", requests=(CheckIdentities,), run=run)
