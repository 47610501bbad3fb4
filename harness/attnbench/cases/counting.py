"""How many query-key pairs a mask lets through, counted without an array: a plan may name cases that fit nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases import masks

if TYPE_CHECKING:
    from attnbench.cases.case import Case


def visible_pairs(case: Case) -> int:
    """As :func:`attnbench.cases.masks.visible_pairs`, in a time that does not grow with the lengths."""
    n, m, first = case.seqlen_q, case.seqlen_kv, case.diagonal_offset
    if case.mask == "none":
        return case.batch * n * m
    if case.mask == "causal":
        return case.batch * _below(n, m, first + 1)
    if case.mask == "sliding_window":
        assert case.window_left is not None
        assert case.window_right is not None
        return case.batch * (_below(n, m, first + case.window_right + 1) - _below(n, m, first - case.window_left))
    if case.mask == "prefix_lm":
        assert case.prefix_len is not None
        prefix = case.prefix_len
        return case.batch * (n * prefix + _below(n, m - prefix, first + 1 - prefix))
    if case.mask == "document":
        lengths = case.document_lengths or ()
        return case.batch * sum(k * (k + 1) // 2 if case.document_causal else k * k for k in lengths)
    if case.mask == "key_padding":
        return n * sum(case.kv_lengths or ())
    return masks.visible_pairs(case)


def _below(rows: int, keys: int, first: int) -> int:
    """Sum of ``first``, ``first + 1``, ..., ``rows`` terms, each cut to between none and all of the keys."""
    return _triangle(rows + first, keys) - _triangle(first, keys)


def _triangle(rows: int, keys: int) -> int:
    """0 + 1 + 2 + ..., ``rows`` terms, none of them larger than ``keys``."""
    rows = max(0, rows)
    growing = min(rows, keys)
    return growing * (growing - 1) // 2 + (rows - growing) * keys
