"""Answers the questions of a run."""

from __future__ import annotations

import collections
import functools
import hashlib
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from attnbench.cases.case import CaseError
from attnbench.cases.inputs.sample_inputs import Inputs, moved_queries
from attnbench.machine.pace.heartbeat import beat
from attnbench.machine.warm_up_libraries import warm_up_torch
from attnbench.oracle.answer.dropout import mask_problem
from attnbench.oracle.identities import judge_identities
from attnbench.oracle.inspection import InspectionError, errors_of, look_inside
from attnbench.oracle.judge import Judgement, Truth, find_truth, judge
from attnbench.oracle.power.blind_spots import Mistake, blind_spot, hidden_mistakes
from attnbench.oracle.quantisation import quantisation_error
from attnbench.oracle.sampled_rows import judge_sampled_rows
from attnbench.oracle.selection import requests, select
from attnbench.stages.agreement import Expect, JudgeOutputs, LookInside, OutputVerdict, Select, Selected, Start
from attnbench.stages.identities import JudgeIdentities
from attnbench.stages.time.heartbeat import Beat, Beaten
from attnbench.stages.time.sampled_rows import JudgeRows
from attnbench.transport.executor import succeeded
from attnbench.transport.message import AnswerMessage, Done, Failure

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.stages.agreement import Wanted
    from attnbench.transport.message import RequestMessage

QUESTIONS = (Start, Expect, Select, JudgeOutputs, JudgeIdentities, JudgeRows, LookInside, Beat)
_REMEMBERED_BYTES = 512 * 2**20
A = TypeVar("A", bound=AnswerMessage)


def kept_weights(case: Case, wanted: Wanted, question: JudgeOutputs) -> tuple[Tensor | None, str | None]:
    """Return the factors (query heads, rows, seqlen_kv) of the weights by the sent dropout mask, and its problem."""
    import torch

    found, shape = question.outputs.get("kept"), wanted.shape
    if found is None or found.shape != shape or found.dtype != "bool":
        said = "nothing" if found is None else f"{found.dtype} of shape {found.shape}"
        return None, f"dropout: @f.kept gave {said}, not bool of shape {shape}"
    rows = case.seqlen_q if wanted.rows is None else len(wanted.rows)
    kept = np.frombuffer(question.frames["kept"], np.uint8).reshape(len(wanted.heads), rows, case.seqlen_kv) != 0
    assert case.dropout is not None
    return torch.from_numpy(kept).double() / (1 - case.dropout), mask_problem(case, kept, wanted)


class Adjudicator:
    """Answers questions, and caches up to half a GiB of truths, dropping the least recently used."""

    def __init__(self, *, guesses: bool = True) -> None:
        """``guesses``: whether a verdict includes a guess at the cause, which takes some time."""
        self._guesses = guesses
        self._blind_spots: dict[tuple[str, bool, tuple[str, ...]], str | None] = {}
        self._hidden_mistakes: dict[tuple[str, bool], tuple[Mistake, ...]] = {}
        self._quantisation_errors: dict[str, float] = {}
        self._truths: collections.OrderedDict[tuple[str, int, int, bool, str], Truth] = collections.OrderedDict()

    def ask(self, question: RequestMessage[A]) -> A:
        """Answer in this process, as a :class:`attnbench.stages.stage.Judge`."""
        return succeeded(question, self.answer(question))

    def answer(self, question: RequestMessage[Any]) -> AnswerMessage | Failure:
        """Answer a question; any exception becomes a failure, so that the oracle keeps running."""
        try:
            match question:
                case Start():
                    warm_up_torch(question.threads)
                    return Done()
                case Expect():
                    for repetition in (0, 1) if question.case.dropout is None else ():  # it depends on the drawn mask
                        self._truth(question.case, Inputs(repetition=repetition), question.stores_scores)
                    if question.case.dropout is None:
                        self._hidden(question.case, question.stores_scores)
                    return Done()
                case Select():
                    selection = select(question.case, question.repetition)
                    return Selected(selection=requests(question.case, selection))
                case JudgeOutputs():
                    return self._verdict(question)
                case JudgeIdentities():
                    start = perf_counter_ns()
                    truths = [
                        self._truth(question.case, one, question.stores_scores) for one in (Inputs(), question.inputs)
                    ]
                    verdict = judge_identities(question.case, truths, question.found)
                    return verdict.model_copy(update={"oracle_ns": perf_counter_ns() - start})
                case JudgeRows():
                    return judge_sampled_rows(question)
                case LookInside():
                    return look_inside(question.case, question.batch_index)
                case Beat():
                    return Beaten(heartbeat_ns=beat())
        except (CaseError, InspectionError) as refusal:
            return Failure(status="error", reason=str(refusal))
        except Exception as error:  # noqa: BLE001
            return Failure(status="error", reason=f"the oracle failed: {type(error).__name__}: {error}")
        return Failure(status="error", reason=f"the oracle knows no question {type(question).__name__}")

    def _truth(self, case: Case, inputs: Inputs, stores_scores: bool, kept: Tensor | None = None) -> Truth:
        """Return the truth of a case for flip index 0; computed once, or with dropout once per mask."""
        mask = "" if kept is None else hashlib.sha256(kept.numpy().tobytes()).hexdigest()
        key = (case.case_id, inputs.repetition, inputs.moved, stores_scores, mask)
        if key not in self._truths:
            queries = functools.partial(moved_queries, case, inputs=inputs) if inputs.moved else None
            selection = select(case, inputs.repetition)
            self._truths[key] = find_truth(
                case, selection, inputs.repetition, stores_scores=stores_scores, queries=queries, kept=kept
            )
        self._truths.move_to_end(key)
        while len(self._truths) > 1 and sum(truth.nbytes for truth in self._truths.values()) > _REMEMBERED_BYTES:
            self._truths.popitem(last=False)
        return self._truths[key]

    def _blind_spot(self, question: JudgeOutputs, truth: Truth, judgement: Judgement) -> str | None:
        """Return a gross mistake that the verdict misses; found once, for the first inputs, as others are alike."""
        if question.inputs.repetition or question.case.dropout is not None:
            return None
        case, judged = question.case, tuple(sorted(judgement.seen))
        key = (case.case_id, question.stores_scores, judged)
        if key not in self._blind_spots:
            hidden = self._hidden(case, question.stores_scores)
            self._blind_spots[key] = blind_spot(case, select(case), truth, judged, hidden)
        return self._blind_spots[key]

    def _hidden(self, case: Case, stores_scores: bool) -> tuple[Mistake, ...]:
        key = (case.case_id, stores_scores)
        if key not in self._hidden_mistakes:
            truth = self._truth(case, Inputs(), stores_scores)
            self._hidden_mistakes[key] = hidden_mistakes(case, select(case), truth)
        return self._hidden_mistakes[key]

    def _quantisation_error(self, case: Case) -> float | None:
        """Return the error on the first inputs, as others are alike; ``None`` if nothing is quantised or judged."""
        selection = select(case)
        if case.kv_dtype is None or not selection.rows_checked(case):
            return None
        if case.case_id not in self._quantisation_errors:
            truth = self._truth(case, Inputs(), stores_scores=False)
            self._quantisation_errors[case.case_id] = quantisation_error(case, selection, truth)
        return self._quantisation_errors[case.case_id]

    def _verdict(self, question: JudgeOutputs) -> OutputVerdict:
        start = perf_counter_ns()
        case, inputs = question.case, question.inputs
        selection, kept = select(case, inputs.repetition), None
        if case.dropout is not None:
            kept, unsound = kept_weights(case, requests(case, selection)["kept"], question)
            if kept is None or unsound:
                took = perf_counter_ns() - start
                return OutputVerdict(problem=unsound, blind=None, cause=None, rms={}, oracle_ns=took)
        truth = self._truth(case, inputs, question.stores_scores, kept)
        judgement = judge(
            case, selection, truth, question.outputs, question.frames, flip_index=inputs.flip_index
        )  # fmt: skip
        errors: dict[str, bytes] = {}
        rms: dict[str, float] = {}
        if question.inspect is not None:
            errors["errors"], rms = errors_of(case, question.inspect, truth, judgement)
        cause = None
        if judgement.wrong and self._guesses and case.dropout is None:
            from attnbench.oracle.diagnosis import guess  # most runs never need it

            cause = guess(case, selection, truth, judgement.seen, judgement.wrong, inputs.repetition)
        return OutputVerdict(
            **judgement.metrics.model_dump(exclude_none=True),
            quantisation_error_rel=self._quantisation_error(case),
            problem=judgement.problem,
            blind=None if judgement.problem else self._blind_spot(question, truth, judgement),
            cause=cause,
            rms=rms,
            frames=errors,
            oracle_ns=perf_counter_ns() - start,
        )
