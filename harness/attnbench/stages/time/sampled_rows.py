"""Rows of timed samples: of each one a row of the output, which nobody knew before, must agree too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.inputs.sample_inputs import SampledRow
from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.stage import CellEndedError
from attnbench.transport.message import AnswerMessage, CaseField, RequestMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.stages.stage import CellRun

FRAME = "sampled_rows"
"""Their raw bytes, one row behind the other."""


class SampledRowMetrics(Metrics, stage="time"):
    """How far timed samples are from the float64 answer, by a row of each."""

    sample_error_ratio: float | None = metric(
        "sample error / budget",
        "The worst error / budget of a random row of each timed sample; above 1 is wrong. Samples whose row another "
        "one took are left out.",
        unit="ratio",
        join="max",
        better="lower",
    )


class RowsVerdict(SampledRowMetrics, AnswerMessage):
    """The oracle's verdict on them."""

    problem: str | None
    oracle_ns: int


class JudgeRows(RequestMessage[RowsVerdict]):
    """Ask the oracle for its verdict on rows of samples, whose bytes are in ``frames``."""

    case: CaseField
    stores_scores: bool
    rows: tuple[SampledRow, ...]
    samples: int
    """How many there were."""
    dtype: str


def judge_rows(
    cell: CellRun, rows: tuple[SampledRow, ...], samples: int, dtype: str, frames: Mapping[str, bytes]
) -> None:
    """Have the rows judged; one that disagrees ends the cell, and so do rows that cannot be of these samples."""
    if cell.device == "cpu" and cell.case.operator == "attention":
        _require_rows(cell, rows, samples)
    if not rows:
        return
    question = JudgeRows(
        case=cell.case,
        stores_scores=cell.stores_scores,
        rows=rows,
        samples=samples,
        dtype=dtype,
        frames={FRAME: frames[FRAME]},
    )
    verdict = cell.ask_oracle(question)
    cell.spent.oracle += verdict.oracle_ns
    cell.keep(verdict)
    if verdict.problem:
        raise CellEndedError("agreement", "wrong", verdict.problem)


def _require_rows(cell: CellRun, rows: tuple[SampledRow, ...], samples: int) -> None:
    """There are rows, each of a sample with inputs of its own, of the repetition that was asked for."""
    if not rows:
        cell.end("invalid", f"of {samples} timed samples none left a row to be judged")
    if len({row.inputs.flip_index for row in rows}) < len(rows) or len({row.sample for row in rows}) < len(rows):
        cell.end("invalid", "two timed samples had the same inputs")
    if {row.inputs.repetition for row in rows} != {cell.unknown.repetition}:
        cell.end("invalid", "timed samples had other inputs than they were given")
