"""Finds the smallest mistakes that a verdict would have noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.counting import visible_pairs
from attnbench.oracle.budget import scales

if TYPE_CHECKING:
    from attnbench.cases.case import Case
    from attnbench.oracle.judge import Truth


def noticed(case: Case, truth: Truth, group_of_head: list[int]) -> dict[str, float]:
    """Return the smallest mistakes in ``out`` that exceed its budget, as metrics by name.

    Dropping a key with the share w of a row's weight moves the row by w (out - v), about w times the length of a value.
    Dropping n of N keys with equal weights at random moves it by sqrt(n) / N of that length.

    ``group_of_head`` is the index of each judged head's group among the judged groups.
    """
    _, allowed = truth.allowed(case, "out")
    found = {"noticed_row_error": allowed}
    if truth.value_norms is None or float(truth.value_norms.min()) == 0:
        return found
    _, of_rows = scales(truth.answers["out"].nan_to_num())
    share = min(1.0, float((allowed * of_rows / truth.value_norms[group_of_head][:, None]).median()))
    keys = max(1.0, visible_pairs(case) / (case.batch * case.seqlen_q))
    return {
        **found,
        "noticed_weight_share": share,
        "noticed_dropped_keys": min(keys, max(1.0, (share * keys) ** 2)),
    }
