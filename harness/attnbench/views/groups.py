"""Groups of cases that differ only in sequence length: the points of a curve, the rows of a table."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from attnbench.cases.choices import CHOICES
from attnbench.cases.masks.table import PARAMETERS, mask_names
from attnbench.cases.tensors.source import short
from attnbench.grouping import grouped
from attnbench.units import length

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.cases.case import Case
    from attnbench.views.cells import CellResult

_QUIET = {
    "operator": "attention",
    "alignment": "top_left",
    "score_mod": "no score_mod",
    "seqlen_q": "seqlen_q = seqlen_kv",
    "scale": "default scale",
    "kv_cache": "dense",
    "kv_dtype": "KV not quantised",
    "dropout": "no dropout",
    "strides": "contiguous",
    "inputs": "normal inputs",
    "seed": "seed 0",
}
"""Words that are left out if all cases share them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Cells on one device whose cases differ only in sequence length."""

    label: str
    """The words that distinguish it from the other groups; empty for a single group."""
    device: str
    seqlen_q: int | None
    """The fixed number of queries if only the number of keys grows (decoding); ``None`` if both grow."""
    cells: tuple[CellResult, ...]
    """Sorted by length, then by implementation."""

    @property
    def axis(self) -> str:
        """The name of the axis that grows: ``seqlen`` or ``seqlen_kv``."""
        return "seqlen" if self.seqlen_q is None else "seqlen_kv"

    @property
    def lengths(self) -> list[int]:
        """The lengths of its cases, ascending."""
        return sorted({cell.case.seqlen_kv for cell in self.cells})

    def at(self, tokens: int) -> list[CellResult]:
        """Return the cells of one length."""
        return [cell for cell in self.cells if cell.case.seqlen_kv == tokens]

    def case_label(self, tokens: int) -> str:
        """Describe the case of one length in words."""
        return " · ".join(part for part in (self.label, f"{self.axis} {length(tokens)}") if part)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grouping:
    """All groups, and the words that they share."""

    common: str
    groups: tuple[Group, ...]


def group_cells(cells: Iterable[CellResult]) -> Grouping:
    """Group cells, and label each group by what differs between groups."""
    parts = [part for family in _families(cells) for part in _told_apart(family)]
    parts.sort(key=lambda part: _order(part.cells))
    words_of = [{**_words(part.cells[0], _fixed_queries(part.cells)), "lengths": part.word} for part in parts]
    varying = {name for words in words_of for name in words if words[name] != words_of[0][name]}
    common = [
        word
        for name, word in (words_of[0] if words_of else {}).items()
        if name not in varying and word and word != _QUIET.get(name)
    ]
    groups = tuple(
        Group(
            label=label,
            device=part.cells[0].device,
            seqlen_q=_fixed_queries(part.cells),
            cells=tuple(sorted(part.cells, key=lambda cell: (cell.case.seqlen_kv, cell.implementation))),
        )
        for part, label in zip(parts, _labels(parts, words_of, varying), strict=True)
    )
    return Grouping(common=" · ".join(common), groups=groups)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LabelPart:
    """Cells of one group, and the word that distinguishes them within their family."""

    word: str
    cells: list[CellResult]


def _families(cells: Iterable[CellResult]) -> list[list[CellResult]]:
    """Group cells by everything but lengths; if queries and keys differ in number, by the number of queries, too."""
    families: dict[tuple[object, ...], list[CellResult]] = {}
    for words, found in grouped(cells, lambda cell: tuple(_words(cell, None).values())).items():
        few_queries = {cell.case.seqlen_q for cell in found if cell.case.seqlen_q != cell.case.seqlen_kv}
        square = {cell.case.seqlen_q for cell in found if cell.case.seqlen_q == cell.case.seqlen_kv}
        # A single square case with the same number of queries as others is the start of their sweep, not one of its
        # own.
        joins = square if len(square) == 1 and square <= few_queries else set()
        for cell in found:
            apart = cell.case.seqlen_q != cell.case.seqlen_kv or cell.case.seqlen_q in joins
            families.setdefault((words, cell.case.seqlen_q if apart else None), []).append(cell)
    return list(families.values())


def _told_apart(cells: list[CellResult]) -> list[_LabelPart]:
    """Split cells if one length has several cases; these differ in parameters that usually follow from the length."""
    cases: dict[int, set[str]] = {}
    for cell in cells:
        cases.setdefault(cell.case.seqlen_kv, set()).add(cell.case_id)
    if all(len(ids) == 1 for ids in cases.values()):
        return [_LabelPart(word="", cells=cells)]
    parts = grouped(cells, lambda cell: _lengths_within(cell.case))
    return [_LabelPart(word=word, cells=part) for word, part in parts.items()]


def _lengths_within(case: Case) -> str:
    said = {name: getattr(case, name) for name, parameter in PARAMETERS.items() if parameter.default is None}
    written = {name: "+".join(map(str, v)) if isinstance(v, tuple) else v for name, v in said.items() if v is not None}
    return " ".join(f"{name} {value}" for name, value in written.items())


def _words(cell: CellResult, queries: int | None) -> dict[str, str]:
    """Return the word for each field in a label's order, without lengths except for a fixed number of queries."""
    case = cell.case
    scaled = not math.isclose(case.scale, 1 / math.sqrt(case.head_dim))
    return {
        "operator": case.operator,
        "mode": case.mode,
        "dtype": case.dtype,
        "mask": case.mask_label(),
        "alignment": case.alignment,
        "score_mod": _score_mod(case),
        "batch": f"batch {case.batch}",
        "heads": f"heads {_pair(case.heads_q, case.heads_kv)}",
        "head_dim": f"head_dim {_pair(case.head_dim, case.head_dim_v)}",
        "seqlen_q": "seqlen_q = seqlen_kv" if queries is None else f"seqlen_q {length(queries)}",
        "scale": f"scale {case.scale:.4g}" if scaled else "default scale",
        "kv_cache": case.kv_cache if case.page_size is None else f"{case.kv_cache} (page_size {case.page_size})",
        "kv_dtype": "KV not quantised" if case.kv_dtype is None else f"{case.kv_dtype} KV",
        "dropout": "no dropout" if case.dropout is None else f"dropout {case.dropout:g}",
        "strides": case.strides,
        "inputs": f"{case.inputs_label()} inputs",
        "seed": f"seed {case.seed}",
        "device": cell.device,
    }


def _pair(one: int, other: int) -> str:
    return str(one) if one == other else f"{one}:{other}"


def _labels(parts: Sequence[_LabelPart], words_of: Sequence[dict[str, str]], varying: set[str]) -> list[str]:
    """Return a label for each part: names that the scenario gives to all of its cases, then the words that differ."""

    def labels(quiet: dict[str, str]) -> list[str]:
        return [
            _label(part.cells, [w for name, w in words.items() if name in varying and w and w != quiet.get(name)])
            for part, words in zip(parts, words_of, strict=True)
        ]

    short = labels(_QUIET)
    return short if len(set(short)) == len(short) and (len(short) == 1 or "" not in short) else labels({})


def _label(cells: list[CellResult], words: list[str]) -> str:
    names = [tag for tag in cells[0].tags if all(tag in cell.tags for cell in cells)]
    return ": ".join(part for part in (", ".join(names), " · ".join(words)) if part)


def _fixed_queries(cells: list[CellResult]) -> int | None:
    apart = {cell.case.seqlen_q for cell in cells if cell.case.seqlen_q != cell.case.seqlen_kv}
    return next(iter(apart)) if apart else None


def _order(cells: Sequence[CellResult]) -> tuple[object, ...]:
    case = cells[0].case
    names = ("operator", "mode", "dtype", "mask", "score_mod")
    chosen = [[CHOICES[name].index(one) for one in mask_names(getattr(case, name))] for name in names]
    sizes = (case.batch, case.heads_q, case.heads_kv, case.head_dim, case.head_dim_v, case.seqlen_q, case.seqlen_kv)
    return (
        cells[0].device,
        *chosen,
        *sizes,
        case.kv_dtype or "",
        case.dropout or 0.0,
        case.strides,
        case.inputs,
        case.seed,
        cells[0].case_id,
    )


def _score_mod(case: Case) -> str:
    told = {"none": "no score_mod", "softcap": f"softcap {case.softcap:g}" if case.softcap else ""}
    if case.bias_file is not None:
        told["bias"] = f"bias {short(case.bias_file)}{' with its gradient' if case.bias_grad else ''}"
    return " & ".join(told.get(mod, mod) for mod in case.score_mods)
