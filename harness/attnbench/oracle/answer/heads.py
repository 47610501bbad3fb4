"""One query head, its rows in blocks, so that memory stays bounded."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.bias import score_bias
from attnbench.cases.inputs.operands import operand
from attnbench.cases.masks import row_runs
from attnbench.oracle.answer.arithmetic import Answer, Arithmetic, Plane, Terms, coarser
from attnbench.oracle.answer.undetermined import attend_where_determined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.selection import Selection

BLOCK_PAIRS = 2**22
"""Query-key pairs that are held at once: 32 MiB for each float64 matrix."""


def rounded(case: Case, values: NDArray[np.floating]) -> Tensor:
    """Input values as the tested implementation sees them, rounded to the case's dtype, in float64."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(getattr(torch, case.dtype)).double()


def keys_or_values(case: Case, values: NDArray[np.floating]) -> Tensor:
    """Like :func:`rounded`; quantised numbers stay exactly what they stand for, whatever the case's dtype."""
    import torch

    return rounded(case, values) if case.kv_dtype is None else torch.from_numpy(values).double()


def errors_of_storing(case: Case, gradients: list[Tensor | None]) -> list[Tensor | None]:
    """Standard deviations of rows' errors where each head's gradient is stored before a group's are added up.

    In unit roundoffs of the accumulator, as :func:`attnbench.oracle.answer.arithmetic.term_sizes`. The low-precision
    reference stores them, too; but of a single key its errors are luck.
    """
    if len(gradients) == 1:
        return []
    size = coarser(case) / math.sqrt(3)
    return [None if tensor is None else size * tensor.nan_to_num().norm(dim=-1) for tensor in gradients]


def sum_of(tensors: list[Tensor | None]) -> Tensor:
    """The sum of gradients that are all there."""
    return functools.reduce(operator.add, (tensor for tensor in tensors if tensor is not None))


def root_of_squares(norms: list[Tensor | None]) -> Tensor:
    """The norm of a sum of independent errors."""
    return sum_of([None if norm is None else norm.square() for norm in norms]).sqrt()


def one_head(
    case: Case,
    arithmetic: Arithmetic,
    where: tuple[int, int],
    selection: Selection,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dout: Tensor | None,
    kept: Tensor | None = None,
) -> Answer:
    """One query head of one batch element (``where``), its selected rows, block by block; ``kept`` as in a plane."""
    import torch

    batch_index, head = where
    wanted = np.arange(case.seqlen_q) if selection.rows is None else np.asarray(selection.rows)
    keys = None if selection.keys is None else torch.tensor(selection.keys)
    if not selection.gradients_of_keys:
        keys = torch.empty(0, dtype=torch.int64)
    runs = _runs(case, batch_index, selection.rows)
    whole = dout is not None or not {"alibi", "relative_bias", "bias"}.isdisjoint(case.score_mods)
    answers = []
    for part, seen in _blocks(case, runs, whole=whole):
        block = wanted[part]
        index = torch.from_numpy(block)
        bias = _bias(case, arithmetic, where, block)
        hidden = _hidden(case, batch_index, selection.rows, (part.start, part.stop), (seen.start, seen.stop))
        if bias is not None and "bias" in case.score_mods:  # -inf hides a key as the mask does
            hidden = torch.isneginf(bias) if hidden is None else hidden | torch.isneginf(bias)
        answers.append(
            attend_where_determined(
                arithmetic,
                case,
                Plane(
                    q=q[index],
                    k=k[seen],
                    v=v[seen],
                    hidden=hidden,
                    bias=bias,
                    sink=float(operand(case, "sinks")[head]) if "sink" in case.score_mods else None,
                    dout=None if dout is None else dout[index],
                    keys=keys,
                    kept=None if kept is None else kept[part, seen],
                ),
            )
        )
    gradients = dout is not None
    factors = {"out": v, "dq": k, "dk": q[torch.from_numpy(wanted)]}
    if dout is not None:
        factors["dv"] = dout[torch.from_numpy(wanted)]
    return Answer(
        torch.cat([a.out for a in answers]),
        torch.cat([a.lse for a in answers]),
        torch.cat([a.dq for a in answers if a.dq is not None]) if gradients else None,
        sum_of([a.dk for a in answers]) if gradients else None,
        sum_of([a.dv for a in answers]) if gradients else None,
        torch.cat([a.dbias for a in answers if a.dbias is not None]) if "dbias" in case.gradients else None,
        _terms([a.terms for a in answers if a.terms is not None], factors),
    )


def _blocks(case: Case, runs: NDArray[np.int64], *, whole: bool) -> Iterator[tuple[slice, slice]]:
    """Rows that are computed at once, and the keys that any of them sees; ``whole`` leaves no key out.

    Rows that are neighbours and share no key, as of two documents, are computed apart.
    """
    if not (len(runs) and case.seqlen_kv):
        yield slice(0, len(runs)), slice(0, case.seqlen_kv)
        return
    low, high = runs[:, 0, 0], runs[:, :, 1].max(1)
    sees = low < high
    apart = sees[1:] & sees[:-1] & ((low[1:] >= high[:-1]) | (high[1:] <= low[:-1]))
    ends = [] if whole else (np.flatnonzero(apart) + 1).tolist()
    for begin, end in itertools.pairwise([0, *ends, len(runs)]):
        first = 0 if whole else min(int(low[begin:end].min()), case.seqlen_kv - 1)
        beyond = case.seqlen_kv if whole else max(int(high[begin:end].max()), first + 1)
        step = max(1, BLOCK_PAIRS // (beyond - first))
        for start in range(begin, end, step):
            yield slice(start, min(start + step, end)), slice(first, beyond)


def _terms(blocks: list[Terms], factors: dict[str, Tensor]) -> Terms | None:
    """Join the terms of all blocks: rows one behind the other; what every row adds to a key is summed.

    ``factors`` are, by tensor, the rows of which its own rows are weighted sums.
    """
    import torch

    if not blocks:
        return None
    of_rows = [block.dq for block in blocks if block.dq is not None]
    of_bias = [block.dbias for block in blocks if block.dbias is not None]
    stored = {}
    for name in blocks[0].stored:
        parts = [block.stored[name] for block in blocks]
        variance = torch.cat(parts) if name in ("out", "dq") else sum_of(list(parts))
        stored[name] = torch.stack([variance, variance / _directions(factors[name])], -1)
    return Terms(
        torch.cat([block.out for block in blocks]),
        torch.cat([block.lse for block in blocks]),
        dq=torch.cat(of_rows) if of_rows else None,
        dk=root_of_squares([block.dk for block in blocks]) if of_rows else None,
        dv=root_of_squares([block.dv for block in blocks]) if of_rows else None,
        dbias=torch.cat(of_bias) if of_bias else None,
        stored=stored,
    )


def _directions(rows: Tensor) -> float:
    """How many directions rows have: the sum of their covariance's eigenvalues, squared, over that of their squares.

    One where all rows are equal, or where there is one column. The mask hides what is not finite.
    """
    rows = rows.nan_to_num(0.0, 0.0, 0.0)
    covariance = rows.T @ rows
    whole = float(covariance.square().sum())
    return float(covariance.trace()) ** 2 / whole if whole else 1.0


@functools.lru_cache(maxsize=1)  # the heads of a batch element come one after another, each in several arithmetics
def _runs(case: Case, batch_index: int, rows: tuple[int, ...] | None) -> NDArray[np.int64]:
    """The runs of keys that the selected rows see, (rows, runs, 2)."""
    runs = row_runs(case, batch_index)
    return runs.copy() if rows is None else runs[list(rows)]  # a tensor file is read-only, which torch warns of


@functools.lru_cache(maxsize=1)
def _hidden(
    case: Case, batch_index: int, rows: tuple[int, ...] | None, block: tuple[int, int], seen: tuple[int, int]
) -> Tensor | None:
    """The keys of ``seen`` that a block of the selected rows does not see: (rows, keys)."""
    import torch

    if case.mask == "none":
        return None
    runs = _runs(case, batch_index, rows)[slice(*block)]
    keys = torch.arange(*seen)
    low, high = torch.from_numpy(runs)[..., None].unbind(2)  # (rows, runs, 1) each
    hidden = (keys < low[:, 0]) | (keys >= high[:, 0])
    for further in range(1, runs.shape[1]):
        hidden &= (keys < low[:, further]) | (keys >= high[:, further])
    return hidden


def _bias(case: Case, arithmetic: Arithmetic, where: tuple[int, int], rows: NDArray[np.int64]) -> Tensor | None:
    import torch

    batch_index, head = where
    table = operand(case, "relative_bias").astype(np.float64) if "relative_bias" in case.score_mods else None
    bias = score_bias(case, head, rows, np.arange(case.seqlen_kv), table, batch_index)
    return None if bias is None else arithmetic.store(torch.from_numpy(bias).double())
