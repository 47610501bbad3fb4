"""Selects the parts of an output that are judged: all of a small case, a sample of a large one.

The oracle selects them after the call. Rows at the edges of masks and of common tile sizes are always included, because
kernels go wrong there; the rest is spread evenly, with a random row from each of several equal stretches.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from attnbench.cases.bias import tensor_bias
from attnbench.cases.inputs.operands import output_shape
from attnbench.cases.inputs.sampling import SPARSE_PAIRS, group_pairs, key_edges, query_edges, spread, upstream_rows
from attnbench.stages.agreement import Wanted

if TYPE_CHECKING:
    from attnbench.cases.case import Case

FULL_PAIRS = 2**22
"""Largest number of query-key pairs of a case of which everything is judged."""
SAMPLED_PAIRS = 2**26
"""Largest number of query-key pairs of a sample of rows."""
MIN_ROWS = 64
MAX_KEYS = 4096
"""Number of keys of a long sequence whose gradients are judged: one in 256 at a million keys."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """The parts of a case that are judged."""

    groups: tuple[tuple[int, int], ...]
    """(batch element, KV head), with all query heads of the group. With projections, KV head 0 stands for all."""
    rows: tuple[int, ...] | None
    """Query rows of ``out``, ``lse`` and ``dq``; ``None`` is all."""
    gradients_of_keys: bool
    """Whether ``dk`` and ``dv`` are judged; then only ``rows`` have an upstream gradient."""
    keys: tuple[int, ...] | None = None
    """Keys of ``dk`` and ``dv``; ``None`` is all."""

    def query_heads(self, case: Case) -> list[tuple[int, int]]:
        """Return (batch element, query head) of all judged heads, group by group."""
        if case.operator == "multi_head_attention":
            return list(self.groups)
        size = case.heads_q // case.heads_kv
        return [(b, g * size + h) for b, g in self.groups for h in range(size)]

    def rows_checked(self, case: Case) -> int:
        """Return the number of judged rows of the output."""
        return len(self.query_heads(case)) * (case.seqlen_q if self.rows is None else len(self.rows))


def select(case: Case, repetition: int = 0) -> Selection:
    """Select the parts to judge within a bounded amount of float64 work; all of a case with a bias gradient, a sum."""
    generator = random.Random(f"{case.case_id}/{repetition}")
    behind_projections = case.operator == "multi_head_attention"
    groups = [(b, g) for b in range(case.batch) for g in range(1 if behind_projections else case.heads_kv)]
    pairs = group_pairs(case)
    if len(groups) * pairs <= FULL_PAIRS or "dbias" in case.gradients:
        return Selection(tuple(groups), None, gradients_of_keys=case.needs_gradients)
    if case.needs_gradients and pairs <= SPARSE_PAIRS:
        return Selection(_some(groups, max(1, 4 * FULL_PAIRS // pairs), generator), None, gradients_of_keys=True)
    pairs_of_row = pairs // case.seqlen_q
    chosen = _some(groups, max(1, SAMPLED_PAIRS // (MIN_ROWS * pairs_of_row)), generator)
    sparse = upstream_rows(case, repetition)
    if sparse is not None:
        keys = spread(case.seqlen_kv, MAX_KEYS, key_edges(case), generator)
        return Selection(chosen, sparse, gradients_of_keys=True, keys=keys)
    count = max(MIN_ROWS, FULL_PAIRS // (len(chosen) * pairs_of_row))
    rows = spread(case.seqlen_q, count, query_edges(case), generator)
    return Selection(chosen, rows, gradients_of_keys=False)


def _some(groups: list[tuple[int, int]], count: int, generator: random.Random) -> tuple[tuple[int, int], ...]:
    """Return the first group, the last, and random others, in order."""
    if count >= len(groups):
        return tuple(groups)
    ends = [groups[-1], groups[0]][-count:] if count < 2 else [groups[0], groups[-1]]
    rest = [group for group in groups if group not in ends]
    return tuple(sorted([*ends, *generator.sample(rest, max(0, count - len(ends)))]))


def requests(case: Case, selection: Selection) -> dict[str, Wanted]:
    """Return the parts that the worker has to send, by tensor."""
    heads, rows = tuple(selection.query_heads(case)), selection.rows
    if case.operator == "multi_head_attention":
        shape_q: tuple[int, ...] = (case.batch, case.seqlen_q, case.embed_dim)
        shape_k: tuple[int, ...] = (case.batch, case.seqlen_kv, case.embed_dim)
        shape_v = shape_k
    else:
        shape_q = (case.batch, case.heads_q, case.seqlen_q, case.head_dim)
        shape_k = (case.batch, case.heads_kv, case.seqlen_kv, case.head_dim)
        shape_v = (case.batch, case.heads_kv, case.seqlen_kv, case.head_dim_v)
    wanted = {
        "out": Wanted(shape=output_shape(case), heads=heads, rows=rows),
        "lse": Wanted(shape=(case.batch, case.heads_q, case.seqlen_q), heads=heads, rows=rows),
    }
    if case.needs_gradients:
        wanted["dq"] = Wanted(shape=shape_q, heads=heads, rows=rows)
        if selection.gradients_of_keys:
            wanted["dk"] = Wanted(shape=shape_k, heads=selection.groups, rows=selection.keys)
            wanted["dv"] = Wanted(shape=shape_v, heads=selection.groups, rows=selection.keys)
    if case.dropout is not None:
        wanted["kept"] = Wanted(shape=(case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv), heads=heads, rows=rows)
    if "dbias" in case.gradients:
        shape = tensor_bias(case).shape
        heads = tuple((b, h) for b in range(shape[0]) for h in range(shape[1]))
        wanted["dbias"] = Wanted(shape=shape, heads=heads, rows=None)
    return wanted
