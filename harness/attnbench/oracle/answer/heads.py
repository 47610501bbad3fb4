"""Computes several query heads together, their rows in blocks, so that memory stays bounded."""

from __future__ import annotations

import functools
import itertools
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
"""Largest number of query-key pairs in memory at once: 32 MiB for each float64 matrix."""
TOGETHER_PAIRS = 2**16
"""Largest number of query-key pairs of heads that are computed together, so that matrices fit into the cache."""


def rounded(case: Case, values: NDArray[np.floating]) -> Tensor:
    """Return input values as the implementation gets them, rounded to the case's dtype, as float64."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(getattr(torch, case.dtype)).double()


def keys_or_values(case: Case, values: NDArray[np.floating]) -> Tensor:
    """Return K or V as :func:`rounded` does, except that dequantised values are exact, whatever the case's dtype."""
    import torch

    return rounded(case, values) if case.kv_dtype is None else torch.from_numpy(values).double()


def errors_of_storing(case: Case, gradients: Tensor) -> Tensor:
    """Return the variances (groups, keys) of errors from storing each head's gradient before they are summed by group.

    ``gradients`` are (groups, heads, keys, columns); variances are in squared unit roundoffs of the accumulator, see
    :func:`attnbench.oracle.answer.arithmetic.term_sizes`. The low-precision reference stores them, too, but for a
    single key its errors may be small by luck.
    """
    if gradients.shape[1] == 1:
        return gradients.new_zeros(())
    return coarser(case) ** 2 / 3 * gradients.nan_to_num().square().sum((1, -1))


def root_of_squares(norms: Tensor) -> Tensor:
    """Return the norm of a sum of independent errors, given their norms along the first axis."""
    return norms.square().sum(0).sqrt()


def attend_heads(
    case: Case,
    arithmetic: Arithmetic,
    where: tuple[tuple[int, int], ...],
    selection: Selection,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dout: Tensor | None,
    kept: Tensor | None = None,
) -> Answer:
    """Compute the selected rows of query heads, block by block. Tensors and the answer have a leading axis of heads.

    Args:
        case: the problem.
        arithmetic: how it is computed.
        where: (batch element, query head) of each head; all must have the mask of the first.
        selection: which rows are wanted, and which keys' gradients.
        q: queries (heads, seqlen_q, head_dim).
        k: keys (heads, seqlen_kv, head_dim).
        v: values (heads, seqlen_kv, head_dim_v).
        dout: upstream gradients (heads, seqlen_q, head_dim_v), where gradients are wanted.
        kept: with dropout, the factors of the weights (heads, rows, seqlen_kv).
    """
    import torch

    batch_index = where[0][0]
    wanted = np.arange(case.seqlen_q) if selection.rows is None else np.asarray(selection.rows)
    keys = None if selection.keys is None else torch.tensor(selection.keys)
    if not selection.gradients_of_keys:
        keys = torch.empty(0, dtype=torch.int64)
    runs = _runs(case, batch_index, selection.rows)
    whole = dout is not None or not {"alibi", "relative_bias", "bias"}.isdisjoint(case.score_mods)
    sink = None
    if "sink" in case.score_mods:
        sink = torch.from_numpy(operand(case, "sinks")[[head for _, head in where]]).double()[:, None, None]
    answers = []
    for part, seen in _blocks(case, runs, len(where), whole=whole):
        block = wanted[part]
        index = torch.from_numpy(block)
        bias = _bias(case, where, selection.rows, (part.start, part.stop))
        hidden = _hidden(case, batch_index, selection.rows, (part.start, part.stop), (seen.start, seen.stop))
        if bias is not None:
            bias = arithmetic.store(bias)
            if "bias" in case.score_mods:  # -inf hides a key as the mask does
                hidden = torch.isneginf(bias) if hidden is None else hidden | torch.isneginf(bias)
        answers.append(
            attend_where_determined(
                arithmetic,
                case,
                Plane(
                    q=q[:, index],
                    k=k[:, seen],
                    v=v[:, seen],
                    hidden=hidden,
                    bias=bias,
                    sink=sink,
                    dout=None if dout is None else dout[:, index],
                    keys=keys,
                    kept=None if kept is None else kept[:, part, seen],
                ),
            )
        )
    index = torch.from_numpy(wanted)
    factors = {"out": v, "dq": k, "dk": q[:, index]} | ({} if dout is None else {"dv": dout[:, index]})
    return Answer(
        torch.cat([a.out for a in answers], 1),
        torch.cat([a.lse for a in answers], 1),
        _rows_of([a.dq for a in answers]),
        _sum_of([a.dk for a in answers]),
        _sum_of([a.dv for a in answers]),
        _rows_of([a.dbias for a in answers]),
        _terms([a.terms for a in answers if a.terms is not None], factors),
    )


def _there(tensors: list[Tensor | None]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


def _rows_of(blocks: list[Tensor | None]) -> Tensor | None:
    """Concatenate the rows of all blocks; ``None`` if no block has the tensor."""
    import torch

    return torch.cat(there, 1) if (there := _there(blocks)) else None


def _sum_of(blocks: list[Tensor | None]) -> Tensor | None:
    """Sum the contributions of all blocks to each key; ``None`` if no block has the tensor."""
    return functools.reduce(operator.add, there) if (there := _there(blocks)) else None


def _blocks(case: Case, runs: NDArray[np.int64], heads: int, *, whole: bool) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of rows and the keys that any row of the block sees; all keys if ``whole``.

    Neighbouring rows that share no key, such as those of two documents, are in separate blocks.
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
        step = max(1, BLOCK_PAIRS // (heads * (beyond - first)))
        for start in range(begin, end, step):
            yield slice(start, min(start + step, end)), slice(first, beyond)


def _terms(blocks: list[Terms], factors: dict[str, Tensor]) -> Terms | None:
    """Join the terms of all blocks: concatenate those of rows, and sum the contributions to each key.

    ``factors`` holds, by tensor, the vectors of which the tensor's rows are weighted sums.
    """
    import torch

    if not blocks:
        return None
    stored = {}
    for name in blocks[0].stored:
        parts: list[Tensor | None] = [block.stored[name] for block in blocks]
        variance = _rows_of(parts) if name in ("out", "dq") else _sum_of(parts)
        assert variance is not None
        stored[name] = torch.stack([variance, variance / _directions(factors[name])[:, None]], -1)
    return Terms(
        torch.cat([block.out for block in blocks], 1),
        torch.cat([block.lse for block in blocks], 1),
        dq=_rows_of([block.dq for block in blocks]),
        dk=_root_of_squares([block.dk for block in blocks]),
        dv=_root_of_squares([block.dv for block in blocks]),
        dbias=_rows_of([block.dbias for block in blocks]),
        stored=stored,
    )


def _root_of_squares(blocks: list[Tensor | None]) -> Tensor | None:
    import torch

    return root_of_squares(torch.stack(there)) if (there := _there(blocks)) else None


def _directions(rows: Tensor) -> Tensor:
    """Return the effective number of directions of the rows of each head.

    It is the squared sum of the covariance's eigenvalues over the sum of their squares: 1 if all rows are equal, or if
    there is one column. Values that are not finite count as 0, as the mask hides them.
    """
    import torch

    rows = rows.nan_to_num(0.0, 0.0, 0.0)
    covariance = rows.mT @ rows
    whole = covariance.square().sum((-2, -1))
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.where(whole == 0, 1.0, trace.square() / whole)


@functools.lru_cache(maxsize=1)  # the heads of a batch element come one after another, in several arithmetics
def _runs(case: Case, batch_index: int, rows: tuple[int, ...] | None) -> NDArray[np.int64]:
    """Return the runs of keys that the selected rows see, (rows, runs, 2)."""
    runs = row_runs(case, batch_index)
    return runs.copy() if rows is None else runs[list(rows)]  # torch warns if an array is read-only


@functools.lru_cache(maxsize=1)
def _hidden(
    case: Case, batch_index: int, rows: tuple[int, ...] | None, block: tuple[int, int], seen: tuple[int, int]
) -> Tensor | None:
    """Return the mask (rows, keys) of the keys of ``seen`` that a block of the selected rows does not see."""
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


@functools.lru_cache(maxsize=1)
def _bias(
    case: Case, where: tuple[tuple[int, int], ...], rows: tuple[int, ...] | None, block: tuple[int, int]
) -> Tensor | None:
    """Return the bias (heads, rows, keys) of a block of the selected rows, or ``None``."""
    import torch

    if {"alibi", "relative_bias", "bias"}.isdisjoint(case.score_mods):
        return None
    table = operand(case, "relative_bias").astype(np.float64) if "relative_bias" in case.score_mods else None
    index = np.arange(*block) if rows is None else np.asarray(rows[slice(*block)])
    added = [score_bias(case, head, index, np.arange(case.seqlen_kv), table, b) for b, head in where]
    return torch.from_numpy(np.stack([one for one in added if one is not None])).double()
