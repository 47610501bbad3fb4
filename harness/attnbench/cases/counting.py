"""How many query-key pairs a mask lets through, counted without an array: a plan may name cases that fit nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases import masks

if TYPE_CHECKING:
    from attnbench.cases.case import Case

MOST_ROWS = 2**24
"""Of masks whose pairs can only be counted row by row."""
_BANDS = frozenset(("none", "causal", "sliding_window", "key_padding"))
"""Kinds whose intersections are a band along the diagonal, of some of the keys."""


def visible_pairs(case: Case) -> int:
    """As :func:`attnbench.cases.masks.visible_pairs`; but for a few masks in a time that no length changes."""
    n, m, first = case.seqlen_q, case.seqlen_kv, case.diagonal_offset
    if _BANDS.issuperset(case.mask_kinds):
        lengths = case.kv_lengths or (m,)
        rights = [
            right for right in (0 if "causal" in case.mask_kinds else None, case.window_right) if right is not None
        ]
        beyond = first + min(rights) + 1 if rights else None
        seen = sum(n * keys if beyond is None else _below(n, keys, beyond) for keys in lengths)
        if case.window_left is not None:
            seen -= sum(_below(n, keys, first - case.window_left) for keys in lengths)
        return seen * (case.batch if case.kv_lengths is None else 1)
    if case.mask == "prefix_lm":
        prefix = case.prefix_len or 0
        return case.batch * (n * prefix + _below(n, m - prefix, first + 1 - prefix))
    if case.mask == "document":
        lengths = case.document_lengths or ()
        return case.batch * sum(k * (k + 1) // 2 if case.document_causal else k * k for k in lengths)
    return masks.visible_pairs(case)


def cannot_be_counted(case: Case) -> str | None:
    """Why nobody can say how many pairs there are, in a sentence, or ``None``."""
    rows = case.seqlen_q * (case.batch if masks.batch_varies(case) else 1)
    if rows <= MOST_ROWS or _BANDS.issuperset(case.mask_kinds) or case.mask in ("prefix_lm", "document"):
        return None
    return f"mask = {case.mask!r} is counted row by row, and {rows:,} rows are more than {MOST_ROWS:,}"


def _below(rows: int, keys: int, first: int) -> int:
    """Sum of ``first``, ``first + 1``, ..., ``rows`` terms, each cut to between none and all of the keys."""
    return _triangle(rows + first, keys) - _triangle(first, keys)


def _triangle(rows: int, keys: int) -> int:
    """0 + 1 + 2 + ..., ``rows`` terms, none of them larger than ``keys``."""
    rows = max(0, rows)
    growing = min(rows, keys)
    return growing * (growing - 1) // 2 + (rows - growing) * keys
