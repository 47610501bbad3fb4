"""A tile of scores: the score modification, the mask, and one step of the online softmax.

A tile holds the scores of some keys with up to ``TILE`` queries, **transposed**: ``s[key * TILE + query]``. So a
register holds one key's scores with 16 queries, and the softmax's reductions along the keys (maximum, sum) are computed
for 16 queries at once, without reductions within a register.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .language.compiling import Codegen, Pointer, chosen_by_types, compiled, intrinsic
from .language.llvm import emit_polynomial
from .language.simd import exp, exp2, exp2_for_bfloat16, fma, lanes_of, load, maximum, select, spread, store
from .tiles import pair_vectors

TILE = 64  # queries
LOG2_E = math.log2(math.e)


# --- Score modifications and masks ------------------------------------------------------------------------------------


def _tanh_series(terms: int) -> tuple[float, ...]:
    """Return the coefficients of x, x^3, x^5, ... in tanh x, from tanh' = 1 - tanh^2."""
    series = [1.0]
    for n in range(1, terms):
        series.append(-sum(series[i] * series[n - 1 - i] for i in range(n)) / (2 * n + 1))
    return tuple(series)


TANH = _tanh_series(14)


@intrinsic
def tanh_series(context: Any, square: Any) -> tuple[Any, Codegen]:
    """Compute tanh(x) / x near 0 from the square of x."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return emit_polynomial(builder, args[0], TANH)

    return square(square), codegen


@compiled
def cap(s: Pointer, keys: int, vectors: int, unit: float, softcap: float) -> None:
    """Compute ``softcap * tanh(unit * s)``, by its series near 0, where 1 - exp cancels, and by exp elsewhere."""
    lanes = lanes_of(s)
    one, zero, near = spread(s, 1), spread(s, 0), spread(s, 0.4)
    factor, scale = spread(s, softcap), spread(s, unit)
    for key in range(keys):
        for vector in range(vectors):
            at = key * TILE + vector * lanes
            x = scale * load(s, at)
            size = maximum(x, zero - x)
            square = x * x
            series = tanh_series(square)
            decay = exp(spread(s, -2) * size)
            far = (one - decay) / (one + decay)
            far = select(x < zero, zero - far, far)
            store(s, at, factor * select(size < near, x * series, far))


@compiled
def add_bias(
    s: Pointer, keys: int, vectors: int, unit: float, key_start: int, row_start: int, bias: Pointer, seqlen_kv: int
) -> None:
    """Multiply scores by ``unit`` and add the bias, which depends only on the distance of key and query."""
    lanes, scale = lanes_of(s), spread(s, unit)
    for key in range(keys):
        distance = row_start - key_start - key + seqlen_kv - 1
        for vector in range(vectors):
            at = key * TILE + vector * lanes
            store(s, at, fma(load(s, at), scale, load(bias, distance + vector * lanes)))


@compiled
def hide(s: Pointer, keys: int, vectors: int, key_start: int, low: Pointer, high: Pointer, at: int) -> None:
    """Set scores of hidden keys to -inf."""
    lanes = lanes_of(s)
    hidden = spread(s, -np.inf)
    for vector in range(vectors):
        first, beyond = load(low, at + vector * lanes), load(high, at + vector * lanes)
        for key in range(keys):
            index = spread(low, key_start + key)
            place = key * TILE + vector * lanes
            store(s, place, select((first <= index) & (index < beyond), load(s, place), hidden))


# --- Online softmax ---------------------------------------------------------------------------------------------------


@compiled
def raise_maximum(
    s: Pointer, keys: int, vector_at: int, scale: Pointer, highest: Pointer, total: Pointer, rescale: Pointer, at: int
) -> Any:
    """Update the maximum of one register's queries by their scores.

    ``total``, the sum of weights, is rescaled; the caller must multiply other sums by ``rescale``.

    Returns:
        The number to add to scaled scores: minus the maximum, or 0 if no key was visible so far, as -inf + inf would
        be NaN.
    """
    zero, nothing = spread(s, 0), spread(s, -np.inf)
    largest = nothing
    for key in range(keys):
        largest = maximum(load(s, key * TILE + vector_at), largest)
    before = load(highest, at)
    now = maximum(largest * scale, before)
    base = select(now == nothing, zero, now)
    factor = exp2(before - base)
    store(highest, at, now)
    store(rescale, vector_at, factor)
    store(total, at, load(total, at) * factor)
    return zero - base


def weigh(
    s: Pointer, p: Pointer, keys: int, vectors: int, unit: float, highest: Pointer, total: Pointer, rescale: Pointer,
    at: int,
) -> None:  # fmt: skip
    """Do one step of the online softmax (Milakov and Gimelshein 2018): from scores to weights in ``p``.

    A weight is a power of two whose exponent is one multiply-add of the score. So the exponent is rounded once, after
    the maximum has been subtracted, where it is smallest.

    Args:
        s: scores, (keys, TILE).
        p: weights: (keys, TILE), or words that pair the weights of two neighbouring keys, (keys / 2, TILE).
        keys: number of keys.
        vectors: number of registers of queries.
        unit: factor to apply to scores.
        highest: largest score so far of each query, times ``unit`` and log2(e), from ``at`` on; updated.
        total: sum of weights so far, from ``at`` on; updated.
        rescale: to fill, (TILE,): the factor that brings earlier sums to the new maximum.
        at: index of this tile's first query.
    """
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(weigh)
def _weigh(
    s: Pointer, p: Pointer, keys: int, vectors: int, unit: float, highest: Pointer, total: Pointer, rescale: Pointer,
    at: int,
) -> Any:  # fmt: skip
    def numbers(
        s: Pointer, p: Pointer, keys: int, vectors: int, unit: float, highest: Pointer, total: Pointer,
        rescale: Pointer, at: int,
    ) -> None:  # fmt: skip
        lanes, scale = lanes_of(s), spread(s, unit * LOG2_E)
        for vector in range(vectors):
            v = vector * lanes
            base = raise_maximum(s, keys, v, scale, highest, total, rescale, at + v)
            added = load(total, at + v)
            for key in range(keys):
                weight = exp2(fma(load(s, key * TILE + v), scale, base))  # phase: exp
                store(p, key * TILE + v, weight)
                added = added + weight
            store(total, at + v, added)

    def pairs(
        s: Pointer, p: Pointer, keys: int, vectors: int, unit: float, highest: Pointer, total: Pointer,
        rescale: Pointer, at: int,
    ) -> None:  # fmt: skip
        lanes, scale = lanes_of(s), spread(s, unit * LOG2_E)
        for vector in range(vectors):
            v = vector * lanes
            base = raise_maximum(s, keys, v, scale, highest, total, rescale, at + v)
            added = load(total, at + v)
            for key in range(0, keys - 1, 2):
                first = exp2_for_bfloat16(fma(load(s, key * TILE + v), scale, base))  # phase: exp
                second = exp2_for_bfloat16(fma(load(s, (key + 1) * TILE + v), scale, base))  # phase: exp
                store(p, key // 2 * TILE + v, pair_vectors(p, first, second))
                added = added + (first + second)
            if keys % 2:
                last = exp2_for_bfloat16(fma(load(s, (keys - 1) * TILE + v), scale, base))  # phase: exp
                store(p, keys // 2 * TILE + v, pair_vectors(p, last, spread(s, 0)))
                added = added + last
            store(total, at + v, added)

    return pairs if isinstance(p.dtype, types.Integer) else numbers
