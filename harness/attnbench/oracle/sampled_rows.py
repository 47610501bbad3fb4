"""The verdict on rows that were taken from timed samples.

Each row has other inputs. As a row of attention's output depends on no query but its own, the rows' queries are
combined into one set of inputs, and a single answer covers all of them.
"""

from __future__ import annotations

import functools
from time import perf_counter_ns
from typing import TYPE_CHECKING

from attnbench.cases.inputs.operands import operand_head
from attnbench.cases.inputs.sample_inputs import moved_from
from attnbench.cases.inputs.sign_flips import value_signs
from attnbench.oracle.budget import measure
from attnbench.oracle.judge import find_truth, read_tensor
from attnbench.oracle.power.blind_spots import forward_alone
from attnbench.oracle.selection import Selection
from attnbench.stages.time.sampled_rows import FRAME, JudgeRows, RowsVerdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.cases.inputs.sample_inputs import SampledRow


def judge_sampled_rows(question: JudgeRows) -> RowsVerdict:
    """Judge each row as if it were the worst row of the whole output."""
    start = perf_counter_ns()
    case, rows = forward_alone(question.case), question.rows
    if question.dtype != case.output_dtype:
        return _verdict(f"a sample returned {question.dtype}, not {case.output_dtype}", None, start)
    size = case.heads_q // case.heads_kv
    places = sorted({one.row for one in rows})
    selection = Selection(
        groups=tuple(sorted({(one.batch, one.head // size) for one in rows})),
        rows=tuple(places),
        gradients_of_keys=False,
    )
    truth = find_truth(
        case,
        selection,
        rows[0].inputs.repetition,
        stores_scores=question.stores_scores,
        queries=functools.partial(_side_by_side, case, rows),
    )
    answer = truth.answers["out"]
    shown = read_tensor(question.frames[FRAME], question.dtype, (len(rows), case.head_dim_v))
    heads = {where: number for number, where in enumerate(selection.query_heads(case))}
    _, allowed = truth.allowed(case, "out")
    worst, problem = 0.0, None
    for one, values in zip(rows, shown, strict=True):
        place = (heads[one.batch, one.head], places.index(one.row))
        signed = values * float(value_signs(case, one.inputs.flip_index)[one.batch, one.head // size])
        error = _error(answer, place, signed)
        if error is None or error / allowed > max(1.0, worst):
            problem = _sentence(question.samples, one, None if error is None else error / allowed, allowed)
        worst = max(worst, 0.0 if error is None else error / allowed)
        if error is None:
            break
    return _verdict(problem, worst, start)


def _side_by_side(case: Case, rows: tuple[SampledRow, ...], batch_index: int, head: int) -> NDArray[np.floating]:
    """Return the queries of a head, with each row's query as it was when the row's sample was taken."""
    queries = operand_head(case, "q", batch_index, head, rows[0].inputs.repetition).copy()
    drawn: dict[int, NDArray[np.floating]] = {}
    for one in rows:
        if (one.batch, one.head) != (batch_index, head) or not one.inputs.moved:
            continue
        source, row = moved_from(case, head, one.row, one.inputs.moved)
        if source not in drawn:
            drawn[source] = operand_head(case, "q", batch_index, source, one.inputs.repetition)
        queries[one.row] = drawn[source][row]
    return queries


def _error(answer: Tensor, place: tuple[int, int], values: Tensor) -> float | None:
    """Return the error of a row on the scale of the whole output; ``None`` if it is not finite but should be."""
    import torch

    if bool((torch.isfinite(answer[place]) != torch.isfinite(values)).any()):
        return None
    got = answer.clone()
    got[place] = values
    return measure(got, answer, per_value=False).max


def _sentence(samples: int, one: SampledRow, ratio: float | None, allowed: float) -> str:
    where = f"out of timed sample {one.sample + 1} of {samples}, batch {one.batch}, head {one.head}, row {one.row}"
    if ratio is None:
        return f"{where}: not finite where the answer is"
    return f"{where}: error {ratio * allowed:.2e} is {ratio:.3g} times its budget {allowed:.2e}"


def _verdict(problem: str | None, ratio: float | None, start: int) -> RowsVerdict:
    return RowsVerdict(problem=problem, sample_error_ratio=ratio, oracle_ns=perf_counter_ns() - start)
