"""Input families: distributions of values, each of which reveals mistakes that others hide.

A family generates one head of one tensor at a time, in float32, from that head's random stream.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks import row_runs
from attnbench.cases.masks.visible import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from attnbench.cases.case import Case

TILE = 64
"""Most kernels use tiles of this many tokens, or of a multiple."""


@dataclasses.dataclass(frozen=True)
class Head:
    """The head that a family generates values for."""

    case: Case
    batch_index: int
    index: int
    keys: Callable[[], NDArray[np.floating]]
    """For a query head: the keys that it attends to, shape (seqlen_kv, head_dim)."""


def values(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """Generate one head of ``q``, ``k``, ``v`` or ``dout``, shape ``(seqlen, dim)``, by the case's family."""
    return _FAMILIES[head.case.inputs](head, name, shape, generator)


def _standard(shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    return generator.standard_normal(shape, np.float32)


def _normal(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """Standard normal. Never uniform: a flat softmax hides kernels that ignore Q and K."""
    del head, name
    return _standard(shape, generator)


def _outlier(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """N(0,1) + N(0,100) * Bernoulli(0.001), as FlashAttention-3 (Shah et al. 2024, section 4.3) tests low precision."""
    del head, name
    drawn = _standard(shape, generator)
    return drawn + np.float32(10) * _standard(shape, generator) * (generator.random(shape, np.float32) < 0.001)


def _large_logits(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """Scores far beyond the range of exp: a softmax that does not subtract the row's maximum overflows."""
    del head
    drawn = _standard(shape, generator)
    return drawn * np.float32(16) if name in ("q", "k") else drawn


def _negative_logits(
    head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.float32]:
    """All scores are near -120, so every LSE is below -88, and exp(0 - LSE) of a padding key with score 0 overflows.

    These are the inputs of pytorch#196678, where a backward pass gave NaN.
    """
    drawn = _standard(shape, generator)
    if name == "q":
        drawn[:, 0] = 8.0
    elif name == "k":
        drawn[:, 0] = -min(120.0 / (8.0 * head.case.scale), 400.0)  # 448 is the largest float8_e4m3fn
    return drawn


def _constant(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """All keys are equal, so all scores of a row tie and the answer is the mean of the visible values."""
    del head
    drawn = _standard(shape, generator)
    return np.broadcast_to(drawn[:1], shape) if name == "k" else drawn


def _ties(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """Only four distinct keys, repeated: a row attains its maximum many times, in several tiles."""
    del head
    drawn = _standard(shape, generator)
    return drawn[generator.integers(min(4, shape[0]), size=shape[0])] if name == "k" else drawn


def _tiny(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """Keys, values and upstream gradients are 64 times smaller, queries 64 times larger: scores of ordinary size."""
    del head
    return _standard(shape, generator) * np.float32(64 if name == "q" else 1 / 64)


def _huge(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """Keys are 32 times larger, queries 32 times smaller, values 64 times larger (float8_e4m3fn ends at 448)."""
    del head
    return _standard(shape, generator) * np.float32({"q": 1 / 32, "k": 32, "v": 64, "dout": 1}[name])


def _needle(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """One key dominates each row, at a place where kernels go wrong: either side of an edge of the mask or of a tile.

    If that key is just outside the mask, a kernel that lets it through returns its value instead of the answer.
    """
    return _with_targets(head, name, shape, generator, _edges)


def _retrieval(head: Head, name: str, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """Each query points at one visible key, and together they cover the keys.

    A key that is dropped, doubled or swapped, or a wrong head or tile, then changes a whole row of the output.
    """
    return _with_targets(head, name, shape, generator, _each_in_turn)


def _with_targets(
    head: Head,
    name: str,
    shape: tuple[int, int],
    generator: np.random.Generator,
    choose: Callable[[Head, np.random.Generator], NDArray[np.int64]],
) -> NDArray[np.float32]:
    """Point each query at the key chosen by ``choose``. All keys have equal norm, so that no other key fits better.

    The score of the chosen key is about ln(seqlen_kv) + 3: it outweighs all others together, but not so far that
    gradients vanish.
    """
    drawn = _standard(shape, generator)
    if name == "k":
        lengths = np.sqrt((drawn * drawn).sum(-1, keepdims=True))
        equal: NDArray[np.float32] = drawn * (np.float32(math.sqrt(shape[1])) / np.maximum(lengths, np.float32(1e-6)))
        return equal
    if name != "q":
        return drawn
    case = head.case
    strength = (math.log(case.seqlen_kv) + 3) / (case.scale * case.head_dim)
    pointed: NDArray[np.float32] = (head.keys()[choose(head, generator)] * strength).astype(np.float32)
    return pointed + np.float32(0.1) * drawn


def _edges(head: Head, generator: np.random.Generator) -> NDArray[np.int64]:
    """Choose a key at an edge for each query: the mask's first or last, one just outside, a tile's, or any visible."""
    case = head.case
    low, high = _runs_in_turn(row_runs(case, head.batch_index))
    rows = np.arange(case.seqlen_q)
    tile_edge = generator.integers(0, case.seqlen_kv, case.seqlen_q) // TILE * TILE - generator.integers(
        0, 2, case.seqlen_q
    )
    candidates = np.stack([high - 1, high, low, low - 1, tile_edge, _some_visible(case, low, high, generator)])
    chosen: NDArray[np.int64] = candidates[(rows + head.index) % len(candidates), rows]
    within = (chosen >= 0) & (chosen < case.seqlen_kv)
    return np.where(within, chosen, _some_visible(case, low, high, generator))


def _each_in_turn(head: Head, generator: np.random.Generator) -> NDArray[np.int64]:
    """Choose keys in order, query by query: from the first one in even heads, from a random one in odd heads."""
    case = head.case
    runs = row_runs(case, head.batch_index)
    low, high = _runs_in_turn(runs)
    step = max(1, case.seqlen_kv // case.seqlen_q)
    start = int(generator.integers(case.seqlen_kv)) if head.index % 2 else 0
    in_turn = (np.arange(case.seqlen_q) * step + start) % case.seqlen_kv
    visible = within(runs, in_turn[:, None])[:, 0]
    return np.where(visible, in_turn, _some_visible(case, low, high, generator))


def _runs_in_turn(runs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bounds (first, one past the last) of one run per query, cycling through runs from query to query."""
    rows = np.arange(len(runs))
    count = (runs[:, :, 0] < runs[:, :, 1]).sum(1)
    chosen = runs[rows, rows % np.maximum(count, 1)]
    return chosen[:, 0], chosen[:, 1]


def _some_visible(
    case: Case, low: NDArray[np.int64], high: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Choose a random visible key for each query; any key if none is visible."""
    drawn = generator.random(case.seqlen_q)
    somewhere = (low + drawn * (high - low)).astype(np.int64)
    return np.where(high > low, np.minimum(somewhere, high - 1), (drawn * case.seqlen_kv).astype(np.int64))


_FAMILIES: dict[str, Callable[[Head, str, tuple[int, int], np.random.Generator], NDArray[np.float32]]] = {
    "normal": _normal,
    "needle": _needle,
    "retrieval": _retrieval,
    "outlier": _outlier,
    "large_logits": _large_logits,
    "negative_logits": _negative_logits,
    "constant": _constant,
    "ties": _ties,
    "tiny": _tiny,
    "huge": _huge,
}
