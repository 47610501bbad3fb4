"""Agreement: the oracle checks whether outputs are within the error budget of their dtype."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from attnbench.cases.dropout import FALSE_ALARMS, equal_by_chance
from attnbench.cases.inputs.sample_inputs import Inputs
from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.stage import CellEndedError, CellRun, WorkerRequest, filled
from attnbench.transport.message import AnswerMessage, CaseField, Done, RequestMessage

if TYPE_CHECKING:
    from attnbench.worker.worker import Worker

JUDGED_TENSORS = ("out", "lse", "dq", "dk", "dv", "dbias")


def _rel(tensor: str) -> Any:
    said = f"RMS of {tensor} - reference over RMS of the reference."
    return metric(f"{tensor} error", said, unit="ratio", join="max", better="lower")


def _max(tensor: str) -> Any:
    said = f"Largest error of a row of {tensor}, relative to the row's norm."
    return metric(f"{tensor} row error", said, unit="ratio", join="max", better="lower")


def _budget(tensor: str) -> Any:
    return metric(f"{tensor} budget", f"Largest {tensor}_error_rel that agrees.", unit="ratio")


def _ratio(tensor: str) -> Any:
    said = f"The worst of all error / budget of {tensor}; above 1 is wrong."
    return metric(f"{tensor} error / budget", said, unit="ratio", join="max", better="lower")


def _worst(tensor: str) -> Any:
    said = f"Index (batch, head, row, column) of {tensor}'s worst error."
    return metric(f"{tensor} worst at", said, unit="index", join="at_worst", worst_by=f"{tensor}_error_ratio")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorError:
    """The error of one tensor against the oracle's answer."""

    tensor: str
    ratio: float
    """Error over budget; above 1 is wrong."""
    worst: tuple[int, ...] | None
    """Index (batch, head, row, column) of the worst error."""


class AgreementMetrics(Metrics, stage="agreement"):
    """Errors of each judged tensor against the float64 answer; ``ok`` means that every ratio is at most 1."""

    out_error_rel: float | None = _rel("out")
    out_error_max: float | None = _max("out")
    out_error_budget: float | None = _budget("out")
    out_error_ratio: float | None = _ratio("out")
    out_error_worst: tuple[int, ...] | None = _worst("out")
    lse_error_rel: float | None = _rel("lse")
    lse_error_max: float | None = _max("lse")
    lse_error_budget: float | None = _budget("lse")
    lse_error_ratio: float | None = _ratio("lse")
    lse_error_worst: tuple[int, ...] | None = _worst("lse")
    dq_error_rel: float | None = _rel("dq")
    dq_error_max: float | None = _max("dq")
    dq_error_budget: float | None = _budget("dq")
    dq_error_ratio: float | None = _ratio("dq")
    dq_error_worst: tuple[int, ...] | None = _worst("dq")
    dk_error_rel: float | None = _rel("dk")
    dk_error_max: float | None = _max("dk")
    dk_error_budget: float | None = _budget("dk")
    dk_error_ratio: float | None = _ratio("dk")
    dk_error_worst: tuple[int, ...] | None = _worst("dk")
    dv_error_rel: float | None = _rel("dv")
    dv_error_max: float | None = _max("dv")
    dv_error_budget: float | None = _budget("dv")
    dv_error_ratio: float | None = _ratio("dv")
    dv_error_worst: tuple[int, ...] | None = _worst("dv")
    dbias_error_rel: float | None = _rel("dbias")
    dbias_error_max: float | None = _max("dbias")
    dbias_error_budget: float | None = _budget("dbias")
    dbias_error_ratio: float | None = _ratio("dbias")
    dbias_error_worst: tuple[int, ...] | None = _worst("dbias")
    noticed_row_error: float | None = metric(
        "row error noticed",
        "Smallest error of a row of out, relative to the row's norm, that would have been wrong.",
        unit="ratio",
        join="max",
        better="lower",
    )
    noticed_weight_share: float | None = metric(
        "weight noticed",
        "Smallest share of a row's weight, on one key, that could not have been dropped; of the median row.",
        unit="ratio",
        join="max",
        better="lower",
    )
    noticed_dropped_keys: float | None = metric(
        "dropped keys noticed",
        "Of keys with equal weights, how many a row could not have dropped at random.",
        unit="count",
        join="max",
        better="lower",
    )
    quantisation_error_rel: float | None = metric(
        "quantisation error",
        "RMS of what storing K and V in kv_dtype changes in the exact output, over the RMS of the output without it; "
        "no part of the verdict.",
        unit="ratio",
        join="max",
        better="lower",
    )
    rows_checked: int | None = metric("rows checked", "Rows of the output that were judged.", unit="count", join="max")
    rows_total: int | None = metric("rows", "Rows that the output has.", unit="count")
    stores_scores: bool | None = metric(
        "scores stored",
        "The implementation says that it stores scores in the inputs' dtype, and the budgets have room for it.",
        unit="yes/no",
        join="all",
    )

    @property
    def errors(self) -> tuple[TensorError, ...]:
        """The errors of all tensors that were judged."""
        return tuple(
            TensorError(tensor=tensor, ratio=ratio, worst=getattr(self, f"{tensor}_error_worst"))
            for tensor in JUDGED_TENSORS
            if (ratio := getattr(self, f"{tensor}_error_ratio")) is not None
        )


class Wanted(BaseModel):
    """The parts of a tensor that the oracle asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    """Shape of the whole tensor; a tensor of any other shape is not shown."""
    heads: tuple[tuple[int, int], ...]
    """(batch, head) pairs; (batch, 0) for tensors behind projections, which have no heads."""
    rows: tuple[int, ...] | None
    """Indices of rows; ``None`` for all."""


class Shape(BaseModel):
    """Shape (canonical: batch, heads, rows, columns) and dtype of a whole tensor that a call returned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    dtype: str


class Shown(AnswerMessage):
    """The wanted rows of each tensor as raw bytes, in ``frames`` by the tensor's name."""

    outputs: dict[str, Shape]


class Show(WorkerRequest[Shown]):
    """Ask the worker for parts of a result that it has kept."""

    selection: dict[str, Wanted]
    result: int

    def serve(self, worker: Worker) -> Shown:
        from attnbench.worker.dump import canonical_output, selected

        session = worker.session
        outputs: dict[str, Shape] = {}
        frames: dict[str, bytes] = {}
        for name, tensor in session.results[self.result].items():
            view = canonical_output(session.case, session.implementation.declaration.layout, name, tensor)
            shape = tuple(int(n) for n in view.shape)
            outputs[name] = Shape(shape=shape, dtype=str(view.dtype).removeprefix("torch."))
            wanted = self.selection.get(name)
            if wanted is not None and shape == wanted.shape:  # else the oracle reports the wrong shape
                frames[name] = selected(view, wanted.heads, wanted.rows, has_heads=len(shape) == 4 - (name == "lse"))
        return Shown(outputs=outputs, frames=frames)


class Selected(AnswerMessage):
    """The parts that the oracle asks for, by tensor."""

    selection: dict[str, Wanted]


class Select(RequestMessage[Selected]):
    """Ask the oracle which parts of a result it needs, after the call."""

    case: CaseField
    repetition: int


class OutputVerdict(AgreementMetrics, AnswerMessage):
    """The oracle's verdict on a result; element-wise errors, if requested, are in ``frames["errors"]``."""

    problem: str | None
    cause: str | None
    """A guess at the cause."""
    blind: str | None
    """A gross mistake that would also have agreed on these inputs."""
    rms: dict[str, float]
    """RMS of each tensor's reference, if errors were asked for."""
    oracle_ns: int


class JudgeOutputs(RequestMessage[OutputVerdict]):
    """Ask the oracle for its verdict on the rows in ``frames``."""

    case: CaseField
    inputs: Inputs
    stores_scores: bool
    outputs: dict[str, Shape]
    inspect: int | None = None
    """Batch element whose element-wise errors are requested."""


class Start(RequestMessage[Done]):
    """Ask the oracle to load its libraries."""

    threads: int


class Expect(RequestMessage[Done]):
    """Ask the oracle to compute the answers of a case ahead of the requests for verdicts."""

    case: CaseField
    stores_scores: bool


class Inside(AnswerMessage):
    """Intermediate results of attention; the arrays are in ``frames["inside"]``, in NumPy's file format."""

    heads: tuple[int, ...]
    """The heads whose weights are included."""
    visible: int
    """Number of query-key pairs that the mask lets through."""


class LookInside(RequestMessage[Inside]):
    """Ask the oracle for mask, weights and entropies of one batch element."""

    case: CaseField
    batch_index: int


def agree(cell: CellRun, *, inputs: Inputs, result: int = 0) -> None:
    """Have the oracle judge a result on these inputs; disagreement ends the cell."""
    asked = time.monotonic()
    cell.inputs = inputs
    wanted = cell.ask_oracle(Select(case=cell.case, repetition=inputs.repetition))
    shown = cell.ask(Show(selection=wanted.selection, result=result), stage="agreement")
    cell.spent.shown += 1e9 * (time.monotonic() - asked)
    _draws_from_its_seed(cell, inputs, shown)
    verdict = cell.ask_oracle(
        JudgeOutputs(
            case=cell.case,
            inputs=inputs,
            stores_scores=cell.stores_scores,
            outputs=shown.outputs,
            frames=shown.frames,
        )
    )
    cell.spent.oracle += verdict.oracle_ns
    _keep_worse(cell, verdict)
    if cell.stores_scores:
        cell.values["stores_scores"] = True
    if verdict.problem:
        guess = f"; a guess at the cause: {verdict.cause}" if verdict.cause else ""
        raise CellEndedError("agreement", "wrong", verdict.problem + _which(cell, inputs, result) + guess)
    if verdict.blind:
        raise CellEndedError("agreement", "undecided", _cannot_tell(cell, verdict.blind))


def _draws_from_its_seed(cell: CellRun, inputs: Inputs, shown: Shown) -> None:
    """End a cell that drops different weights with one seed, or the same weights with different seeds."""
    if (kept := shown.frames.get("kept")) is None:
        return
    before = cell.kept.setdefault(inputs.repetition, kept)
    if before != kept:
        raise CellEndedError("agreement", "wrong", "dropout: two calls with one seed kept other weights")
    others = [one for repetition, one in cell.kept.items() if repetition != inputs.repetition]
    if kept in others and equal_by_chance(cell.case, len(kept)) < FALSE_ALARMS:
        raise CellEndedError("agreement", "wrong", "dropout: two calls with two seeds kept the same weights")


def _cannot_tell(cell: CellRun, blind: str) -> str:
    """Return why agreement is inconclusive here, and what would be conclusive."""
    remedy = "other inputs, such as inputs=normal"
    if cell.case.output_dtype in ("float16", "bfloat16"):
        remedy += ", or dtype=float32"
    if cell.stores_scores:
        remedy += ", or scores that are not stored"
    return f"cannot tell: it agrees, and on these inputs so would {blind}, which is not right; {remedy}, would tell"


def _keep_worse(cell: CellRun, verdict: OutputVerdict) -> None:
    """Keep the larger ratio of two checks, tensor by tensor."""
    found = filled(verdict)
    for tensor in JUDGED_TENSORS:
        before, now = (values.get(f"{tensor}_error_ratio") for values in (cell.values, found))
        if before is not None and now is not None and before > now:
            found = {name: value for name, value in found.items() if not name.startswith(f"{tensor}_")}
    cell.values |= found


def _which(cell: CellRun, inputs: Inputs, result: int) -> str:
    """Return which call it was, unless it was the first one."""
    if inputs.repetition:
        return " (on fresh inputs, timed)" if cell.limits.timed else " (on fresh inputs)"
    return " (a repeated call, with NaN in fresh memory or by chance)" if result else ""
