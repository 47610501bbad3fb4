"""Attention by its definition, row by row in float64, with which implementations are compared.

It shares no code with attnbench except the description of a case: masks, biases and gradients are written out from
their definitions, one query at a time.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.cases.tensors.planes import bias_tensor, mask_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench import Case

    Array = NDArray[np.float64]


@dataclasses.dataclass
class Inputs:
    """Arrays in float64 whose values are exact in the case's dtype."""

    q: Array  # (batch, heads_q, seqlen_q, head_dim)
    k: Array  # (batch, heads_kv, seqlen_kv, head_dim)
    v: Array  # (batch, heads_kv, seqlen_kv, head_dim_v)
    dout: Array  # (batch, heads_q, seqlen_q, head_dim_v)
    relative_bias: Array  # (heads_q, 32)
    sinks: Array  # (heads_q,)


@dataclasses.dataclass
class Answer:
    """The answer by definition, in float64."""

    out: Array  # (batch, heads_q, seqlen_q, head_dim_v)
    lse: Array  # (batch, heads_q, seqlen_q)
    dq: Array
    dk: Array
    dv: Array
    dbias: Array = dataclasses.field(default_factory=lambda: np.zeros(0))  # as the bias, 1 where it is broadcast


def attention_by_definition(case: Case, inputs: Inputs, kept: NDArray[np.bool_] | None = None) -> Answer:
    """Compute output, LSE and gradients; with dropout, ``kept`` is (batch, heads_q, seqlen_q, seqlen_kv)."""
    group = case.heads_q // case.heads_kv
    answer = Answer(
        out=np.zeros((case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)),
        lse=np.full((case.batch, case.heads_q, case.seqlen_q), -np.inf),
        dq=np.zeros_like(inputs.q),
        dk=np.zeros_like(inputs.k),
        dv=np.zeros_like(inputs.v),
        dbias=np.zeros(whole_bias(case).shape if case.bias_grad else 0),
    )
    for b in range(case.batch):
        for i in range(case.seqlen_q):
            keys = [j for j in range(case.seqlen_kv) if sees(case, b, i, j)]
            for h in range(case.heads_q):
                factors = np.ones(case.seqlen_kv) if kept is None else kept[b, h, i] / (1 - (case.dropout or 0.0))
                one_row(case, inputs, answer, (b, h, h // group, i), keys, factors)
    return answer


def one_row(
    case: Case, inputs: Inputs, answer: Answer, where: tuple[int, int, int, int], keys: list[int], factors: Array
) -> None:
    """Add the results of one query of one head to ``answer``; ``factors`` are dropout's factors of its weights."""
    b, h, g, i = where
    keys = [j for j in keys if added(case, inputs, b, h, i, j) > -math.inf]
    q, k, v = inputs.q[b, h, i], inputs.k[b, g, keys], inputs.v[b, g, keys]
    scores = case.scale * (k @ q)
    slope = np.ones(len(keys))
    if "softcap" in case.score_mod:
        assert case.softcap is not None
        slope = 1 - np.tanh(scores / case.softcap) ** 2
        scores = case.softcap * np.tanh(scores / case.softcap)
    scores = scores + np.array([added(case, inputs, b, h, i, j) for j in keys])
    competitors = [*scores, inputs.sinks[h]] if "sink" in case.score_mod else [*scores]
    if not competitors:
        return
    top = max(competitors)
    lse = top + math.log(sum(math.exp(score - top) for score in competitors))
    weights = np.exp(scores - lse)
    dout = inputs.dout[b, h, i]
    factors = factors[keys]
    dweights = factors * (v @ dout)
    dscores = weights * (dweights - np.sum(weights * dweights))
    if answer.dbias.size:
        for j, gradient in zip(keys, dscores, strict=True):
            answer.dbias[place_in(answer.dbias, b, h, i, j)] += gradient
    dscores = dscores * slope * case.scale
    answer.lse[b, h, i] = lse
    answer.out[b, h, i] = (weights * factors) @ v
    answer.dq[b, h, i] = dscores @ k
    answer.dk[b, g, keys] += np.outer(dscores, q)
    answer.dv[b, g, keys] += np.outer(weights * factors, dout)


def position(case: Case, i: int) -> int:
    """Return the index of the key at query i's position."""
    if case.requests is not None:
        first_query = beyond_last_key = 0
        for queries, keys in requests_of(case.requests):
            first_query, beyond_last_key = first_query + queries, beyond_last_key + keys
            if i < first_query:
                return beyond_last_key - (first_query - i)
    return i + (case.seqlen_kv - case.seqlen_q if case.alignment == "bottom_right" else 0)


def sees(case: Case, b: int, i: int, j: int) -> bool:
    """Whether query i sees key j in batch element b: every kind of the mask must show it."""
    return all(shows(kind, case, b, i, j) for kind in case.mask.split(" & "))


def shows(kind: str, case: Case, b: int, i: int, j: int) -> bool:
    """Whether this kind of mask shows key j to query i in batch element b."""
    p = position(case, i)
    if kind == "causal":
        return j <= p
    if kind == "sliding_window":
        assert case.window_left is not None
        assert case.window_right is not None
        return p - case.window_left <= j <= p + case.window_right
    if kind == "prefix_lm":
        assert case.prefix_len is not None
        return j < case.prefix_len or j <= p
    if kind == "document":
        assert case.document_lengths is not None
        owner = [n for n, length in enumerate(case.document_lengths) for _ in range(length)]
        return owner[i] == owner[j] and (j <= i or not case.document_causal)
    if kind == "key_padding":
        assert case.kv_lengths is not None
        return j < case.kv_lengths[b]
    if kind == "left_padding":
        assert case.kv_starts is not None
        return j >= case.kv_starts[b]
    if kind == "tree":
        assert case.tree_parents is not None
        n = len(case.tree_parents)
        draft, token = i - (case.seqlen_q - n), j - (case.seqlen_kv - n)
        if token < 0:
            return draft >= 0 or j <= p
        while draft > token:
            draft = case.tree_parents[draft]
        return draft == token
    if kind == "tensor":
        assert case.mask_file is not None
        return bool(at(mask_tensor(case.mask_file, case.batch, case.seqlen_q, case.seqlen_kv), b, 0, i, j))
    if kind == "block_sparse":
        return j // (case.mask_block_size or 0) in listed(case, i // (case.mask_block_size or 0))
    if kind == "ragged":
        assert case.requests is not None
        first_query = first_key = 0
        for queries, keys in requests_of(case.requests):
            own = i - first_query
            if 0 <= own < queries:
                return 0 <= j - first_key <= own + keys - queries
            first_query, first_key = first_query + queries, first_key + keys
    assert kind == "none"
    return True


def listed(case: Case, block: int) -> list[int]:
    """Return the blocks of keys that a block of queries sees."""
    assert case.mask_blocks is not None
    assert case.mask_block_size is not None
    how, _, rest = case.mask_blocks.partition(":")
    if how == "list":
        return [int(key) for key in rest.split("/")[block].split("+") if key]
    n = case.mask_block_size
    own = {position(case, i) // n for i in range(block * n, min((block + 1) * n, case.seqlen_q))}
    blocks = range(-(-case.seqlen_kv // n))
    first, second = rest.split(":")
    if how == "local":
        return [key for key in blocks if key < int(second) or any(abs(key - one) <= int(first) for one in own)]
    order = np.random.Generator(np.random.SFC64([int(second), 2, block])).random(len(blocks)).tolist()
    others = sorted((key for key in blocks if key not in own), key=order.__getitem__)
    count = round(float(first.removesuffix("%")) / 100 * len(blocks))
    return [key for key in blocks if key in own] + others[: max(0, count - len(own & set(blocks)))]


def requests_of(text: str) -> list[tuple[int, int]]:
    """Parse the numbers of queries and keys of each request, from a text without units."""
    found = []
    for part in text.split("_"):
        count, _, sizes = part.partition("q")
        queries, _, keys = sizes.partition("s")
        found += [(int(queries), int(keys or queries))] * int(count or 1)
    return found


def at(tensor: NDArray[Any], *place: int) -> Any:
    """Return one value of a tensor whose axes of length 1 are broadcast."""
    return tensor[place_in(tensor, *place)]


def place_in(tensor: NDArray[Any], *place: int) -> tuple[int, ...]:
    """Return the index of that value."""
    return tuple(0 if size == 1 else index for size, index in zip(tensor.shape, place, strict=True))


def whole_bias(case: Case) -> NDArray[Any]:
    """Return the bias with four axes."""
    assert case.bias_file is not None
    return bias_tensor(case.bias_file, case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv)


def added(case: Case, inputs: Inputs, b: int, h: int, i: int, j: int) -> float:
    """Return the bias of query i and key j in head h of batch element b."""
    mods, total = case.score_mod.split(" & "), 0.0
    if "bias" in mods:
        total += float(at(whole_bias(case), b, h, i, j))
    distance = j - position(case, i)
    if "alibi" in mods:
        total -= alibi_slope(h, case.heads_q) * abs(distance)
    if "relative_bias" in mods:
        never = {"causal", "tree"} | ({"sliding_window"} if case.window_right == 0 else set())
        never |= {"document"} if case.document_causal else set()
        ahead = never.isdisjoint(case.mask.split(" & "))
        total += float(inputs.relative_bias[h, t5_bucket(distance, both_ways=ahead)])
    return total


def alibi_slope(h: int, heads: int) -> float:
    """Return a slope as in the paper; the number of heads must be a power of two."""
    assert heads & (heads - 1) == 0
    return math.pow(2, -8 * (h + 1) / heads)


def t5_bucket(distance: int, *, both_ways: bool) -> int:
    """Return the bucket of key position - query position among 32; half of a direction's buckets are exact."""
    buckets, bucket = 32, 0
    if both_ways:
        buckets = 16
        bucket = 16 if distance > 0 else 0
        steps = abs(distance)
    else:
        steps = max(-distance, 0)
    exact = buckets // 2
    if steps < exact:
        return bucket + steps
    return bucket + min(buckets - 1, exact + int(math.log(steps / exact) / math.log(128 / exact) * (buckets - exact)))
