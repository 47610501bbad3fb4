"""Other cases whose answers are parts of the current answer, or from which it can be assembled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.cases.case import make_case
from attnbench.cases.inputs.operands import OF_QUERIES
from attnbench.cases.masks import batch_varies, row_runs
from attnbench.cases.masks.kinds.ragged import request_groups
from attnbench.cases.masks.table import instead_of, kinds_of
from attnbench.cases.requests import Requests, written
from attnbench.identities.difference import difference, floor
from attnbench.identities.identity import Arrays, Finding, Identity, Variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from attnbench.cases.case import Case


_LAST_SEQUENCE = "the last sequence alone"


def _other(case: Case, **fields: Any) -> Case:
    """Return the case with other fields, and with contiguous inputs."""
    return make_case(**{**case.to_dict(), "strides": "contiguous", **fields})


def _rows(inputs: Arrays, chosen: slice, names: tuple[str, ...]) -> Arrays:
    return {name: inputs[name][:, :, chosen] for name in names if name in inputs}


class FirstTokensAlone(Identity):
    """Tokens that come later do not change what a causal mask lets the earlier ones see."""

    def refuses(self, case: Case) -> str | None:
        if not any(kind.causal for kind in kinds_of(case.mask)):
            return f"mask {case.mask!r} is not causal"
        if not _divisible(case):
            return "its first tokens are no case of their own"
        if case.seqlen_q != case.seqlen_kv:
            return "the lengths are unequal"
        return None if self._rows_that_stay(case) > 0 else "it is too short"

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return about two thirds of the sequence."""
        kept = _two_thirds(case)
        other = _other(case, seqlen_q=kept, seqlen_kv=kept, **_up_to(case, kept))
        inputs = _rows(inputs, slice(kept), ("q", "k", "v", "dout"))
        return [Variant(case=other, inputs=inputs, what=f"the first {kept} tokens alone")]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        count = self._rows_that_stay(case)
        return [
            difference(name, others[0][name][:, :, :count], results[name])
            for name in ("out", "lse", "dq")
            if name in results
        ]

    def _rows_that_stay(self, case: Case) -> int:
        kept = _two_thirds(case)
        # Bounds of causal masks only move forward, so the rows that stay are the first ones.
        ends = [row_runs(case, b)[:, :, 1].max(1) for b in range(case.batch if batch_varies(case) else 1)]
        return min(kept, *(int((end <= kept).sum()) for end in ends))


def _divisible(case: Case) -> bool:
    return "bias" not in case.score_mods and all(kind.divisible for kind in kinds_of(case.mask))


def _tied_to_its_batch(case: Case) -> str | None:
    """Return why a sequence of the batch is no case by itself, or ``None``."""
    if "bias" in case.score_mods or not all(kind.by_sequence for kind in kinds_of(case.mask)):
        return "its mask or its bias is for this batch alone"
    return None


def _up_to(case: Case, count: int) -> dict[str, object]:
    """Return the mask's parameters for a case with only the first keys."""
    prefix = None if case.prefix_len is None else min(case.prefix_len, count)
    return {"prefix_len": prefix, **_padding(case, lambda key: min(key, count))}


def _padding(case: Case, moved: Callable[[int], int]) -> dict[str, list[int]]:
    """Return the bounds of each sequence's real keys, each bound moved."""
    ends = {"kv_starts": case.kv_starts, "kv_lengths": case.kv_lengths}
    return {name: [moved(key) for key in keys] for name, keys in ends.items() if keys is not None}


def _two_thirds(case: Case) -> int:
    """Return an odd number of tokens, which ends within a tile."""
    return (2 * case.seqlen_q // 3 - 1) | 1


class LastQueriesAlone(Identity):
    """The last queries by themselves, over all keys, give the same rows."""

    def refuses(self, case: Case) -> str | None:
        if not _divisible(case):
            return "its last queries are no case of their own"
        if case.seqlen_q < 3:
            return "there are fewer than three queries"
        if case.on_diagonal and case.diagonal_offset != case.seqlen_kv - case.seqlen_q:
            return "the diagonal does not end in the last corner"
        return None

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return about half of the queries, from an odd place on."""
        start = self._start(case)
        other = _other(case, seqlen_q=case.seqlen_q - start, alignment="bottom_right")
        inputs = {**inputs, **_rows(inputs, slice(start, None), ("q", "dout"))}
        return [Variant(case=other, inputs=inputs, what=f"the last {other.seqlen_q} queries over all keys")]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        return [
            difference(name, others[0][name], results[name], first_row=self._start(case))
            for name in ("out", "lse", "dq")
            if name in results
        ]

    def _start(self, case: Case) -> int:
        return case.seqlen_q // 2 | 1


class KeysInTwoParts(Identity):
    """The keys in two parts, merged through their LSE, give the same output."""

    def refuses(self, case: Case) -> str | None:
        if not all(kind.splits for kind in kinds_of(case.mask)):
            return f"mask {case.mask!r} has no such parts"
        if case.on_diagonal and case.seqlen_q != case.seqlen_kv:
            return "the lengths are unequal"
        if case.score_mod not in ("none", "softcap"):
            return f"score_mod {case.score_mod!r} has no such parts"
        return None if case.seqlen_kv > 1 else "there is one key"

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return two parts of the keys, with the cut within a tile; forward only."""
        cut = self._cut(case)
        first, last = _padding(case, lambda key: min(key, cut)), _padding(case, lambda key: max(key - cut, 0))
        parts = (
            ("first", slice(cut), cut, "top_left", first),
            ("last", slice(cut, None), case.seqlen_kv - cut, "bottom_right", last),
        )
        return [
            Variant(
                case=_other(case, mode="forward", seqlen_kv=count, alignment=alignment, **padding),
                inputs={"q": inputs["q"], **_rows(inputs, chosen, ("k", "v"))},
                what=f"all queries over the {which} {count} keys",
            )
            for which, chosen, count, alignment, padding in parts
        ]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        """Compare the output, and the LSE if the implementation returns one."""
        first, last = others
        if "lse" not in first:
            return []
        lse = np.logaddexp(first["lse"].astype(np.float64), last["lse"].astype(np.float64))
        least = np.where(np.isneginf(lse), 0.0, lse)
        weights = [np.exp(part["lse"].astype(np.float64) - least)[..., None] for part in others]
        out = sum(weight * part["out"] for weight, part in zip(weights, others, strict=True))
        of_out, of_lse = difference("out", np.asarray(out), results["out"]), difference("lse", lse, results["lse"])
        # An error of the LSE is a relative error of the weights; parts may be longer than their sum.
        size = float(np.abs(least).max(initial=1.0))
        longer = _longest(weights, others, results["out"])
        return [
            dataclasses.replace(of_out, row_by_row={"out": 1.0 + longer, "lse": 2.0 * longer * max(1.0, size)}),
            of_lse,
        ]

    def _cut(self, case: Case) -> int:
        return max(1, case.seqlen_kv // 2 - 3)


def _longest(weights: list[NDArray[Any]], parts: list[Arrays], whole: NDArray[Any]) -> float:
    """Return the greatest ratio of the summed norms of a row's weighted parts to the norm of the row, at least 1."""
    together = sum(
        weight[..., 0] * np.linalg.norm(part["out"], axis=-1) for weight, part in zip(weights, parts, strict=True)
    )
    sizes = np.maximum(np.linalg.norm(whole.astype(np.float64), axis=-1), floor("out", whole))
    return max(1.0, float(np.nan_to_num(together / sizes).max(initial=1.0)))


class KeyHeadsRepeated(Identity):
    """A key head for each query head, the shared ones repeated, gives the same output; their gradients add up."""

    def refuses(self, case: Case) -> str | None:
        return None if case.heads_kv < case.heads_q else "no key head is shared"

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return the case with as many key heads as query heads."""
        size = case.heads_q // case.heads_kv
        repeated = {name: np.repeat(inputs[name], size, axis=1) for name in ("k", "v")}
        other = _other(case, heads_kv=case.heads_q)
        return [Variant(case=other, inputs={**inputs, **repeated}, what="the case with a key head for each query head")]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        def added(tensor: NDArray[Any]) -> NDArray[Any]:
            total: NDArray[Any] = tensor.reshape(case.batch, case.heads_kv, -1, *tensor.shape[2:]).sum(2)
            return total

        return [
            difference(name, added(others[0][name]) if name in ("dk", "dv") else others[0][name], results[name])
            for name in results
        ]


class LatentExpanded(Identity):
    """Keys and values of each head's own, expanded from the latent, give the same output as the absorbed form.

    DeepSeek-AI, "DeepSeek-V2" (2024), section 2.1.2: scores are q W_UK c = (q W_UK) c, and the output is (P c) W_UV.
    Here each head's W_UK and W_UV are permutations with signs, for which products are exact in every dtype: what the
    two forms differ by is the implementation's.
    """

    def refuses(self, case: Case) -> str | None:
        return None if case.kv_cache == "latent" else "there is no latent"

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return keys and values expanded for each query head; columns beyond the latent's values are unchanged."""
        rank, size = case.head_dim_v, case.heads_q // case.heads_kv
        latent = np.repeat(inputs["k"], size, axis=1)
        q, k, v = inputs["q"].copy(), latent.copy(), latent[..., :rank].copy()
        for head, (of_keys, key_signs, of_values, value_signs) in enumerate(self._projections(case)):
            q[:, head, :, :rank] = inputs["q"][:, head][..., of_keys] * key_signs
            k[:, head, :, :rank] = latent[:, head][..., of_keys] * key_signs
            v[:, head] = latent[:, head][..., of_values] * value_signs
        other = _other(case, heads_kv=case.heads_q, kv_cache="dense")
        what = "the case with keys and values expanded for each head"
        return [Variant(case=other, inputs={"q": q, "k": k, "v": v}, what=what)]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        absorbed = dict(results)
        absorbed["out"] = results["out"].copy()
        for head, (_, _, of_values, value_signs) in enumerate(self._projections(case)):
            absorbed["out"][:, head] = results["out"][:, head][..., of_values] * value_signs
        return [difference(name, others[0][name], absorbed[name]) for name in results]

    def _projections(self, case: Case) -> list[tuple[NDArray[Any], ...]]:
        """Return columns and signs of each head's W_UK and W_UV."""
        generator, rank = np.random.default_rng(case.seed), case.head_dim_v
        return [
            tuple(part for _ in range(2) for part in (generator.permutation(rank), generator.choice((-1.0, 1.0), rank)))
            for _ in range(case.heads_q)
        ]


class LastSequenceAlone(Identity):
    """A sequence by itself, without the others of its batch and without its padding, gives the same."""

    def refuses(self, case: Case) -> str | None:
        if tied := _tied_to_its_batch(case):
            return tied
        if case.batch == 1 and not _padding_can_go(case):
            return "there is no other sequence, and no padding that can be left out"
        return None if _real_keys_of_last(case) else "its last sequence has no key"

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return the last sequence, which has the longest padding by default."""
        last = {name: tensor[-1:] for name, tensor in inputs.items()}
        count = _real_keys_of_last(case)
        if not _padding_can_go(case):
            padding = {name: keys[-1:] for name, keys in _padding(case, int).items()}
            return [Variant(case=_other(case, batch=1, **padding), inputs=last, what=_LAST_SEQUENCE)]
        unpadded = {**_up_to(case, count), "mask": instead_of(case.mask, "key_padding", "none"), "kv_lengths": None}
        if case.kv_starts is not None:
            unpadded["kv_starts"] = [min(case.kv_starts[-1], count)]
        other = _other(case, batch=1, seqlen_kv=count, **unpadded)
        inputs = {**last, **_rows(last, slice(count), ("k", "v"))}
        return [Variant(case=other, inputs=inputs, what=f"{_LAST_SEQUENCE}, without its padding")]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        """Compare every tensor; keys that are not real have no gradient."""
        # The scales of the whole batch apply, so the sequence is compared in its place.
        wholes = ((name, tensor, results[name]) for name, tensor in others[0].items())
        return [difference(name, _in_its_place(tensor, whole), whole) for name, tensor, whole in wholes]


def _padding_can_go(case: Case) -> bool:
    """Whether there is padding whose removal moves neither the diagonal nor the mask's bounds for other keys."""
    moves = case.on_diagonal and case.alignment == "bottom_right"
    return case.kv_lengths is not None and _divisible(case) and not moves


def _real_keys_of_last(case: Case) -> int:
    return case.seqlen_kv if case.kv_lengths is None else case.kv_lengths[-1]


def _in_its_place(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Return the whole with its last sequence replaced."""
    filled: NDArray[Any] = whole.astype(np.promote_types(part.dtype, whole.dtype), copy=True)
    filled[-1] = 0
    filled[-1][:, : part.shape[2]] = part[0]
    return filled


class AnotherSequenceBeside(Identity):
    """Another sequence in the batch, other and shorter, changes nothing."""

    def refuses(self, case: Case) -> str | None:
        return _tied_to_its_batch(case) or (None if case.batch == 1 else "there are other sequences already")

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return a batch of the reversed sequence, followed by the sequence itself.

        With key padding, half of the reversed sequence's keys are real.
        """
        doubled = {name: np.concatenate([tensor[:, :, ::-1], tensor]) for name, tensor in inputs.items()}
        padding = {name: [(keys[0] + 1) // 2, keys[0]] for name, keys in _padding(case, int).items()}
        other = _other(case, batch=2, **padding)
        return [Variant(case=other, inputs=doubled, what="the sequence beside another one")]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        return [difference(name, others[0][name][1:], results[name]) for name in results]


class LastRequestAlone(Identity):
    """A request in a pack of its own gives the same."""

    def refuses(self, case: Case) -> str | None:
        if case.requests is None:
            return "it is no ragged batch"
        return None if len(request_groups(case, one_by_one=True)) > 1 else "it is a single request"

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """Return the last request, which is farthest from the common beginning of the packs of queries and keys."""
        places = _last_request(case)
        alone = {name: tensor[:, :, places[name in OF_QUERIES]] for name, tensor in inputs.items() if tensor.ndim == 4}
        requests = written((Requests(1, alone["q"].shape[2], alone["k"].shape[2]),))
        fields = {name: value for name, value in case.to_dict().items() if not name.startswith("seqlen")}
        other = make_case(**{**fields, "requests": requests, "strides": "contiguous"})
        return [Variant(case=other, inputs={**inputs, **alone}, what=f"the last request, {requests}, alone")]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        """Compare every tensor at the request's place."""
        places, found = _last_request(case), []
        for name, tensor in others[0].items():
            whole = results[name]
            filled = whole.astype(np.promote_types(tensor.dtype, whole.dtype), copy=True)
            filled[:, :, places[name in OF_QUERIES]] = tensor
            found.append(difference(name, filled, whole))
        return found


def _last_request(case: Case) -> dict[bool, slice]:
    """Return the place of the last request among queries (``True``) and among keys (``False``)."""
    last = request_groups(case, one_by_one=True)[-1]
    return {True: last.rows, False: last.columns}
