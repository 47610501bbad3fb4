"""Rows of timed samples: one unpredictable row of each sample's output must agree too."""

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
"""Name of the frame with the rows' raw bytes, concatenated."""


class SampledRowMetrics(Metrics, stage="time"):
    """Errors of one row per timed sample against the float64 answer."""

    sample_error_ratio: float | None = metric(
        "sample error / budget",
        "The worst error / budget of a random row of each timed sample; above 1 is wrong. Samples whose row another "
        "one took are left out.",
        unit="ratio",
        join="max",
        better="lower",
    )


class RowsVerdict(SampledRowMetrics, AnswerMessage):
    """The oracle's verdict on the rows."""

    problem: str | None
    oracle_ns: int


class JudgeRows(RequestMessage[RowsVerdict]):
    """Ask the oracle for its verdict on rows of samples, whose bytes are in ``frames``."""

    case: CaseField
    stores_scores: bool
    rows: tuple[SampledRow, ...]
    samples: int
    """Number of samples, including those without a row."""
    dtype: str


def judge_rows(
    cell: CellRun, rows: tuple[SampledRow, ...], samples: int, dtype: str, frames: Mapping[str, bytes]
) -> None:
    """Have the rows judged. A row that disagrees ends the cell, and so do rows that cannot stem from these samples."""
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
    """End the cell unless there are rows, each of another sample and inputs, and all of the requested repetition."""
    if not rows:
        cell.end("invalid", f"of {samples} timed samples none left a row to be judged")
    if len({row.inputs.flip_index for row in rows}) < len(rows) or len({row.sample for row in rows}) < len(rows):
        cell.end("invalid", "two timed samples had the same inputs")
    if {row.inputs.repetition for row in rows} != {cell.unknown.repetition}:
        cell.end("invalid", "timed samples had other inputs than they were given")
