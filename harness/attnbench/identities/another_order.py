"""Identities of the same case with other inputs: one more call of what is prepared already."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from attnbench.cases.masks.table import kinds_of
from attnbench.cases.masks.visible import any_visible
from attnbench.identities.difference import difference
from attnbench.identities.identity import Arrays, Finding, Identity, Needs, Variant, weights_do_not_add_up

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case


def _position_matters(case: Case) -> str | None:
    if any(kind.by_position for kind in kinds_of(case.mask)):
        return f"mask {case.mask!r} depends on positions"
    if not {"alibi", "relative_bias", "bias"}.isdisjoint(case.score_mods):
        return f"score_mod {case.score_mod!r} depends on positions"
    return None


class QueriesInAnotherOrder(Identity):
    """Queries in another order give the same rows in that order."""

    needs: ClassVar[Needs] = "a call"

    def refuses(self, case: Case) -> str | None:
        return _position_matters(case) or ("there is one query" if case.seqlen_q == 1 else None)

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return the queries rolled by half the sequence, to other places within tiles."""
        shift = _shift(case)
        rolled = {n: np.roll(x, shift, axis=2) if n in ("q", "dout") else x for n, x in inputs.items()}
        return [Variant(case=case, inputs=rolled)]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        back = {
            name: np.roll(tensor, -_shift(case), axis=2) if name in ("out", "lse", "dq") else tensor
            for name, tensor in others[0].items()
        }
        return [difference(name, back[name], results[name]) for name in results]


def _shift(case: Case) -> int:
    return case.seqlen_q // 2 | 1 if case.seqlen_q > 2 else 1


class KeysInAnotherOrder(Identity):
    """Keys and their values in another order give the same output."""

    needs: ClassVar[Needs] = "a call"

    def refuses(self, case: Case) -> str | None:
        some = max(keys.stop - keys.start for keys in _real_keys(case)) > 1
        return _position_matters(case) or (None if some else "there is one key")

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return the real keys in reverse order."""
        return [Variant(case=case, inputs={**inputs, **{n: _reversed(case, inputs[n]) for n in ("k", "v")}})]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        back = {n: _reversed(case, tensor) if n in ("dk", "dv") else tensor for n, tensor in others[0].items()}
        return [difference(name, back[name], results[name]) for name in results]


def _real_keys(case: Case) -> list[slice]:
    starts, ends = case.kv_starts or (0,) * case.batch, case.kv_lengths or (case.seqlen_kv,) * case.batch
    return [slice(min(start, end), end) for start, end in zip(starts, ends, strict=True)]


def _reversed(case: Case, tensor: NDArray[np.floating]) -> NDArray[np.floating]:
    turned = tensor.copy()
    for batch_index, keys in enumerate(_real_keys(case)):
        turned[batch_index, :, keys] = tensor[batch_index, :, keys][:, ::-1]
    return turned


class ValuesOfOne(Identity):
    """If all values are 1, so is the output: the weights of a row sum to 1."""

    needs: ClassVar[Needs] = "a call"

    def refuses(self, case: Case) -> str | None:
        """Refuse a sink, which takes part of the weight, and quantised values, which need not include 1."""
        if case.kv_dtype is not None:
            return f"1 is not among the values that {case.kv_dtype} stores"
        return weights_do_not_add_up(case)

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return values of 1 with the same queries; keys change only in a latent, which contains the values."""
        if case.kv_cache != "latent":
            return [Variant(case=case, inputs={**inputs, "v": np.ones_like(inputs["v"])})]
        latent = inputs["k"].copy()
        latent[..., : case.head_dim_v] = 1
        return [Variant(case=case, inputs={**inputs, "k": latent})]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        """Compare each element of the output; exponentials, weights and output may be rounded once each.

        Rounding changes a weight by at most u, relative to itself, so it changes their sum by at most u.
        """
        out = others[0]["out"]
        worst, where, seen = -1.0, (0, 0, 0), (0.0, 0.0)
        for batch_index in range(case.batch):
            want = any_visible(case, batch_index).astype(np.float64)
            for head in range(case.heads_q):
                apart = np.abs(out[batch_index, head].astype(np.float64) - want[:, None])
                apart[np.isnan(apart)] = np.inf
                row, column = divmod(int(apart.argmax()), apart.shape[1])
                if apart[row, column] > worst:
                    worst, where = float(apart[row, column]), (batch_index, head, row)
                    seen = (float(out[batch_index, head, row, column]), float(want[row]))
        return [Finding(tensor="out", error=worst, where=where, got=seen[0], want=seen[1], roundings=3)]
