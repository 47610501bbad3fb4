"""A tile of scores in the backward pass: weights and their gradients, through the softmax.

Tiles are transposed, as in ``softmax.py``.
"""

from __future__ import annotations

from typing import Any

from numba import types

from .language.compiling import Pointer, chosen_by_types, compiled
from .language.simd import exp, fma, lanes_of, load, select, spread, store, sum_of
from .softmax import TILE
from .tiles import pair_vectors, store_halves


def differentiate(
    s: Pointer, dp: Pointer, p_rows: Pointer, ds_rows: Pointer, ds_pairs: Pointer, keys: int, vectors: int, unit: float,
    lse: Pointer, delta: Pointer, at: int, softcap: float,
) -> None:  # fmt: skip
    """Compute weights P from scores, and dS from dP, through the cap if there is one.

    Args:
        s: scores, transposed, (keys, TILE).
        dp: gradients of the weights, likewise.
        p_rows: to fill: P, (keys, TILE); in words, a word is two neighbouring queries.
        ds_rows: to fill: dS, likewise.
        ds_pairs: to fill: dS; in words, a word is two neighbouring keys, (keys / 2, TILE). Else ``ds_rows`` itself.
        keys: number of keys.
        vectors: number of registers of queries.
        unit: factor to apply to scores.
        lse: LSE of the queries, from ``at`` on; +inf for those that see no key.
        delta: delta of the queries, from ``at`` on.
        at: index of this tile's first query.
        softcap: the softcap; 0 for none.
    """
    raise NotImplementedError  # compiled code has the following


@chosen_by_types(differentiate)
def _differentiate(
    s: Pointer, dp: Pointer, p_rows: Pointer, ds_rows: Pointer, ds_pairs: Pointer, keys: int, vectors: int, unit: float,
    lse: Pointer, delta: Pointer, at: int, softcap: float,
) -> Any:  # fmt: skip
    def numbers(
        s: Pointer, dp: Pointer, p_rows: Pointer, ds_rows: Pointer, ds_pairs: Pointer, keys: int, vectors: int,
        unit: float, lse: Pointer, delta: Pointer, at: int, softcap: float,
    ) -> None:  # fmt: skip
        lanes, scale, zero = lanes_of(s), spread(s, unit), spread(s, 0)
        for vector in range(vectors):
            v = vector * lanes
            normalizer, taken_off = zero - load(lse, at + v), load(delta, at + v)
            for key in range(keys):
                place = key * TILE + v
                score = load(s, place)
                weight = exp(fma(score, scale, normalizer))  # phase: exp
                store(p_rows, place, weight)
                gradient = weight * (load(dp, place) - taken_off)
                if softcap > 0:
                    gradient = through_cap(s, gradient, score, softcap)
                store(ds_rows, place, gradient)

    def pairs(
        s: Pointer, dp: Pointer, p_rows: Pointer, ds_rows: Pointer, ds_pairs: Pointer, keys: int, vectors: int,
        unit: float, lse: Pointer, delta: Pointer, at: int, softcap: float,
    ) -> None:  # fmt: skip
        lanes, scale, zero = lanes_of(s), spread(s, unit), spread(s, 0)
        for vector in range(vectors):
            v = vector * lanes
            normalizer, taken_off = zero - load(lse, at + v), load(delta, at + v)
            before = zero
            for key in range(keys):
                place = key * TILE + v
                score = load(s, place)
                weight = exp(fma(score, scale, normalizer))  # phase: exp
                store_halves(p_rows, place // 2, weight)
                gradient = weight * (load(dp, place) - taken_off)
                if softcap > 0:
                    gradient = through_cap(s, gradient, score, softcap)
                store_halves(ds_rows, place // 2, gradient)
                if key % 2:
                    store(ds_pairs, key // 2 * TILE + v, pair_vectors(ds_pairs, before, gradient))
                before = gradient
            if keys % 2:
                store(ds_pairs, keys // 2 * TILE + v, pair_vectors(ds_pairs, before, zero))

    return pairs if isinstance(p_rows.dtype, types.Integer) else numbers


@compiled
def through_cap(s: Pointer, gradient: Pointer, score: Pointer, softcap: float) -> Pointer:
    """Multiply a gradient by the cap's derivative at the capped score, which is -inf, with gradient 0, if hidden."""
    fraction = score * spread(s, 1 / softcap)
    slope = fma(fraction, spread(s, 0) - fraction, spread(s, 1))
    return select(gradient == spread(s, 0), gradient, gradient * slope)


@compiled
def row_products(delta: Pointer, at: int, a: Pointer, b: Pointer, row_size: int, rows: int) -> None:
    """Sum A * B along each row of two tiles: the term that the softmax's normalisation subtracts from the gradient."""
    lanes = lanes_of(a)
    for i in range(rows):
        total = spread(a, 0)
        for d in range(0, row_size, lanes):
            total = fma(load(a, i * row_size + d), load(b, i * row_size + d), total)
        delta[at + i] = sum_of(total)
