"""Describes which part of a tensor is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks import row_runs
from attnbench.oracle.selection import requests
from attnbench.units import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.oracle.selection import Selection

TILES = (256, 128, 64, 32, 16)
_ALL_OF_IT = "all of it is wrong, and no common mistake in mask, scale or head mapping explains it"


def pattern(case: Case, selection: Selection, name: str, got: Tensor, answer: Tensor, allowed: float) -> str | None:
    """Return one sentence on what the wrong elements have in common, or ``None``.

    Tensors are (heads, rows, columns), or (heads, rows) for an LSE; ``allowed`` is the largest error of a row, relative
    to the row's norm.
    """
    import torch

    if got.ndim == 2:
        got, answer = got[..., None], answer[..., None]
    unlike = torch.nan_to_num(got - answer, nan=torch.inf).abs()
    unlike[(got == answer) | (got.isnan() & answer.isnan())] = 0
    sizes = answer.nan_to_num(0, 0, 0).norm(dim=-1, keepdim=True)
    scale = torch.maximum(sizes, sizes.square().mean().sqrt()).clamp_min(1e-300)
    bad = unlike > allowed * scale / max(1.0, float(answer.shape[-1])) ** 0.5
    rows = bad.any(-1)  # (heads, rows)
    if not bool(rows.any()):
        return None
    places = list(requests(case, selection)[name].heads)
    shares = _shares(case, places, rows, selection, name) + _columns(bad)
    where = _where(shares)
    factor = _factor(got, answer, rows)
    if factor is not None:
        return f"{where}{', and ' if where else ''}what is wrong is {factor:.4g} times what it should be"
    if name in ("out", "lse", "dq") and _is_another_key_head(case, places, rows.any(-1).tolist()):
        return f"{where}, as when query head h reads key head h % heads_kv instead of h // (heads_q // heads_kv)"
    return _low_precision(case, got, answer, rows) or where or (_ALL_OF_IT if bool(rows.all()) else None)


def _factor(got: Tensor, answer: Tensor, rows: Tensor) -> float | None:
    """Return the factor by which all wrong rows differ from the answer, or ``None`` if that does not explain them."""
    import torch

    seen, right = got[rows], answer[rows]
    if not bool(torch.isfinite(seen).all()) or float(right.square().sum()) == 0:
        return None
    factor = float((seen * right).sum() / right.square().sum())
    if abs(factor) < 1e-6 or abs(factor - 1) < 1e-3:
        return None
    rest = float((seen - factor * right).norm() / (abs(factor) * right.norm()))
    return factor if rest < min(0.02, 0.3 * abs(factor - 1)) else None


def _low_precision(case: Case, got: Tensor, answer: Tensor, rows: Tensor) -> str | None:
    """Return a sentence if most rows have errors of similar size, typical of a coarser arithmetic, or ``None``."""
    import torch

    finite = torch.isfinite(got).all(-1) & torch.isfinite(answer).all(-1) & (answer.norm(dim=-1) > 0)
    if not bool(finite.any()) or float(rows.double().mean()) < 0.4:
        return None
    relative = (got - answer)[finite].norm(dim=-1) / answer[finite].norm(dim=-1)
    typical, large = float(relative.median()), float(relative.quantile(0.9))
    coarse = {"bfloat16": 2.0**-5, "float16": 2.0**-8, "float8_e4m3fn": 2.0**-5}.get(case.dtype, 2.0**-7)
    fine = 0.0 if case.output_dtype in ("bfloat16", "float16") else 2.0**-16
    if not fine < typical < coarse or large > 10 * typical:
        return None
    return (
        f"nearly every row is off by about {typical:.1e} of itself, as when something is kept or multiplied in a "
        f"coarser type than {'float32' if case.dtype != 'float64' else 'float64'}"
    )


def _shares(case: Case, places: list[tuple[int, int]], rows: Tensor, selection: Selection, name: str) -> list[str]:
    """Return clauses on the batch elements, heads and rows that the wrong elements have in common."""
    said = []
    by_place = rows.any(-1).tolist()
    for which, noun in ((0, "batch"), (1, "head")):
        everything = sorted({place[which] for place in places})
        wrong = sorted({place[which] for place, bad in zip(places, by_place, strict=True) if bad})
        if len(wrong) < len(everything):
            said.append(_these(noun, wrong, everything))
    of_keys = name in ("dk", "dv")
    noun = "key" if of_keys else "row"
    index = selection.keys if of_keys else selection.rows
    numbers = list(range(rows.shape[1])) if index is None else list(index)
    wrong_rows = [n for n, bad in zip(numbers, rows.any(0).tolist(), strict=True) if bad]
    if len(wrong_rows) < len(numbers):
        said.append(_rows(case, noun, wrong_rows, numbers, of_keys=of_keys))
    return said


def _where(shares: Sequence[str]) -> str:
    """Join clauses on places, each a subject with its verb; the wrong elements are in all of the places."""
    if not shares:
        return ""
    first, *others = shares
    within = [share.rpartition(" ")[0].removesuffix(",") for share in others]
    return f"only {first} wrong" + (f", and there only {listing(within)}" if within else "")


def _these(noun: str, wrong: list[int], everything: list[int]) -> str:
    if wrong == everything[1:]:
        return f"{noun} > {everything[0]} is"
    plural = {"batch": "batch elements", "head": "heads"}[noun]
    return f"{noun} {wrong[0]} is" if len(wrong) == 1 else f"{plural} {_listed(wrong)} are"


def _is_another_key_head(case: Case, places: list[tuple[int, int]], wrong: list[bool]) -> bool:
    """Whether the wrong heads are those that have another key head in the other common map of query to key heads."""
    size = case.heads_q // case.heads_kv
    return any(wrong) and wrong == [head % case.heads_kv != head // size for _, head in places]


def _rows(case: Case, noun: str, wrong: list[int], everything: list[int], *, of_keys: bool) -> str:
    total = case.seqlen_kv if of_keys else case.seqlen_q
    rest = set(everything) - set(wrong)
    if wrong == [total - 1]:
        return f"the last {noun} is"
    for tile in TILES:
        start = total // tile * tile
        if total % tile and start and wrong[0] >= start and not any(n >= start for n in rest):
            return f"the last {total - start} {noun}s, a tail shorter than a tile of {tile}, are"
    if not any(n >= wrong[0] for n in rest):
        return f"{noun}s >= {wrong[0]} are"
    if not any(n <= wrong[-1] for n in rest):
        return f"{noun}s <= {wrong[-1]} are"
    if not of_keys:
        seen = (row_runs(case, 0) @ np.array([-1, 1])).sum(1)
        empty = {n for n in everything if seen[n] == 0}
        if empty and set(wrong) == empty:
            return "rows that see no key are"
        whole = {n for n in everything if seen[n] == case.seqlen_kv}
        if whole and not whole & set(wrong):
            return f"rows whose mask ends among the keys are ({len(wrong)} of {len(everything)})"
    return f"{len(wrong)} of {len(everything)} {noun}s, from {wrong[0]} to {wrong[-1]}, are"


def _columns(bad: Tensor) -> list[str]:
    columns = bad.any(0).any(0).nonzero().flatten().tolist()
    width = bad.shape[-1]
    if width == 1 or len(columns) == width or not columns:
        return []
    if columns == list(range(columns[0], width)) and columns[0]:
        return [f"columns >= {columns[0]} are"]
    return []


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (" and more" if len(numbers) > 6 else "")
