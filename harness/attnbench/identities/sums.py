"""Identities between inputs, output and gradients of one backward pass, which need no further call.

Let P be the weights and dS the gradient of the scaled scores, for each key head (its query heads are summed). For any
mask, soft cap, bias or sink:

- dV = P' dO and O = P V, so V' dV = O' dO, transposed: a matrix of (head_dim_v, head_dim_v);
- dQ = scale dS K and dK = scale dS' Q, so Q' dQ = dK' K: a matrix of (head_dim, head_dim).

The weights of a row sum to 1 (without a sink), so the rows of dV sum to those of dO. A constant does not change
softmax, so (without soft cap and sink) each row of dS sums to 0, and so do the rows of dK.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from attnbench.cases.masks.visible import any_visible
from attnbench.identities.difference import floor, row_norms
from attnbench.identities.identity import Arrays, Finding, Identity, Needs, weights_do_not_add_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case

_BLOCK = 2**14
"""Number of tokens that are converted to float64 at once."""


class _Sums(Identity):
    """An identity with two sides for each key head, of which the worst is reported."""

    needs: ClassVar[Needs] = "nothing"

    def refuses(self, case: Case) -> str | None:
        return None if case.needs_gradients else "it has no gradients"

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        """Return the key head with the largest error relative to its rounding error."""
        found = [self.side(case, inputs, results, *group) for group in _groups(case)]
        return [max(found, key=lambda finding: finding.error / (sum(finding.independent.values()) or 1.0))]

    @abstractmethod
    def side(
        self, case: Case, inputs: Arrays, results: Arrays, batch_index: int, key_head: int, heads: range
    ) -> Finding:
        """Return both sides for one key head."""


class _Follow(_Sums):
    """The identity X' dX = R' G for each key head: X is an input of the keys, R a result of the queries, G an input."""

    names: ClassVar[tuple[str, str, str]]
    """The names of X, R and G."""

    def side(
        self, case: Case, inputs: Arrays, results: Arrays, batch_index: int, key_head: int, heads: range
    ) -> Finding:
        """Compare two square matrices. An error in a row of R affects everything that the row adds to dX."""
        own, result, given = self.names
        gradient = f"d{own}"
        x, dx = inputs[own][batch_index, key_head], results[gradient][batch_index, key_head]
        rows = [(results[result][batch_index, h], inputs[given][batch_index, h]) for h in heads]
        least = {name: floor(name, results[name]) for name in (gradient, result)}
        by_rows = sum(_spread(one, other, least[result]) for one, other in rows)
        return _finding(
            gradient,
            (batch_index, key_head),
            got=_product(x, dx),
            want=np.sum([_product(one, other) for one, other in rows], axis=0),
            independent={
                gradient: math.sqrt(_spread(dx, x, least[gradient]) + by_rows),
                result: math.sqrt(by_rows),
            },
            floors=least,
        )


class ValuesFollowTheOutput(_Follow):
    """V' dV = O' dO, for each key head: what the values receive is what the output was given."""

    names = ("v", "out", "dout")


class KeysFollowTheQueries(_Follow):
    """Q' dQ = dK' K, for each key head: queries and keys receive the gradients of the same scores."""

    names = ("k", "dq", "q")


class ValueGradientsAddUp(_Sums):
    """The rows of dV sum to the rows of dO that see a key: the weights of each row sum to 1."""

    def refuses(self, case: Case) -> str | None:
        return super().refuses(case) or weights_do_not_add_up(case)

    def side(
        self, case: Case, inputs: Arrays, results: Arrays, batch_index: int, key_head: int, heads: range
    ) -> Finding:
        """Compare two rows of head_dim_v. All weights of a query may be wrong by one factor."""
        dv = results["dv"][batch_index, key_head]
        seeing = any_visible(case, batch_index)
        rows = [inputs["dout"][batch_index, h][seeing].astype(np.float64) for h in heads]
        least = {"dv": floor("dv", results["dv"])}
        by_dout = sum(float(np.square(dout).sum()) for dout in rows)
        return _finding(
            "dv",
            (batch_index, key_head),
            got=dv.sum(0, dtype=np.float64),
            want=np.sum([dout.sum(0) for dout in rows], axis=0),
            independent={"dv": math.sqrt(_spread(dv, None, least["dv"]) + by_dout)},
            floors=least,
        )


class KeyGradientsCancel(_Sums):
    """The rows of dK sum to 0: a constant added to all keys changes no weight."""

    def refuses(self, case: Case) -> str | None:
        if not {"sink", "softcap"}.isdisjoint(case.score_mods):
            return f"with {case.score_mod} a constant added to all keys changes the weights"
        return super().refuses(case)

    def side(
        self, case: Case, inputs: Arrays, results: Arrays, batch_index: int, key_head: int, heads: range
    ) -> Finding:
        """Compare a row of head_dim with zeros.

        A query adds ``scale * q * (sum of weights * upstream - delta)``. The error of either term is that of the row of
        O, or of its weights, times dO.
        """
        dk = results["dk"][batch_index, key_head]
        least = {name: floor(name, results[name]) for name in ("dk", "out")}
        by_delta = case.scale**2 * sum(
            _spread(
                results["out"][batch_index, h],
                inputs["dout"][batch_index, h],
                least["out"],
                inputs["q"][batch_index, h],
            )
            for h in heads
        )
        got = dk.sum(0, dtype=np.float64)
        return _finding(
            "dk",
            (batch_index, key_head),
            got=got,
            want=np.zeros_like(got),
            independent={
                "dk": math.sqrt(_spread(dk, None, least["dk"])),
                "out": math.sqrt(by_delta),
                "dv": math.sqrt(by_delta),
            },
            floors=least,
        )


def _groups(case: Case) -> Iterator[tuple[int, int, range]]:
    """Yield (batch element, key head, its query heads)."""
    size = case.heads_q // case.heads_kv
    for batch_index in range(case.batch):
        for key_head in range(case.heads_kv):
            yield batch_index, key_head, range(key_head * size, (key_head + 1) * size)


def _product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the product a' b in float64, of (tokens, m) and (tokens, n) to (m, n)."""
    total = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(a), _BLOCK):
        block = slice(start, start + _BLOCK)
        total += a[block].astype(np.float64).T @ b[block].astype(np.float64)
    return total


def _spread(wrong: NDArray[Any], other: NDArray[Any] | None, least: float, third: NDArray[Any] | None = None) -> float:
    """Sum over tokens the square of a row's error scale times the norms of the rows by which it is multiplied."""
    total = 0.0
    for start in range(0, len(wrong), _BLOCK):
        block = slice(start, start + _BLOCK)
        scales = np.maximum(row_norms(wrong[block]), least)
        for factor in (other, third):
            if factor is not None:
                scales = scales * row_norms(factor[block])
        total += float(np.square(scales).sum())
    return total


def _finding(
    tensor: str,
    where: tuple[int, int],
    *,
    got: NDArray[np.float64],
    want: NDArray[np.float64],
    independent: dict[str, float],
    floors: dict[str, float],
) -> Finding:
    apart = float(np.linalg.norm(got - want))
    return Finding(
        tensor=tensor,
        error=apart if math.isfinite(apart) else math.inf,
        where=where,
        got=float(np.linalg.norm(got)),
        want=float(np.linalg.norm(want)),
        independent=independent,
        common={tensor: float(np.linalg.norm(want))},
        floors=floors,
    )
