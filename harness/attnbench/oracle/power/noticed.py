"""The power of a verdict: the smallest mistakes that it would have noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.counting import visible_pairs
from attnbench.oracle.budget import scales

if TYPE_CHECKING:
    from attnbench.cases.case import Case
    from attnbench.oracle.judge import Truth


def noticed(case: Case, truth: Truth, group_of_head: list[int]) -> dict[str, float]:
    """The smallest mistakes in ``out`` that are beyond its budget; metrics by name.

    A key that has the share w of a row's weight moves the row, when it is dropped, by w (out - v), which is about w
    times the length of a value. Of N keys with equal weights, n that are dropped at random move it by sqrt(n) / N of
    that length.

    ``group_of_head`` is, for each judged head, the place of its group among the judged ones.
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
