"""The verdict on identities: whether an implementation within its budgets could have caused what was found.

The budget of an identity is derived from the budgets of its tensors (:mod:`attnbench.oracle.budget`) and its
coefficients. Two answers within budget differ by at most twice the budget. The errors of many rows grow with the square
root of their number if they are independent, or linearly if they have a common factor.

If the oracle judges only a sample of rows, the largest error of all rows is likely to be above that of the sample. A
row's rounding error is a sum of independent bounded errors, whose tails fall like a Gaussian's (Hoeffding 1963, as in
Higham & Mary 2019), so the largest of n grows with the square root of ln n.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.identities.collection import IDENTITIES, name_of, sentence_of
from attnbench.oracle.budget import roundoff, smallest_scale, summed_roundoff
from attnbench.stages.identities import IdentityVerdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.cases.case import Case
    from attnbench.identities.identity import Finding
    from attnbench.oracle.judge import Truth


def judge_identities(case: Case, truths: Sequence[Truth], found: Mapping[str, Sequence[Finding]]) -> IdentityVerdict:
    """Judge a worker's findings.

    ``truths`` are those of the first inputs and of the inputs that the worker checked; they may lack ``dk`` and ``dv``.
    """
    by_tensor = {name: truth for truth in truths for name in truth.answers}
    ratios: dict[str, float] = {}
    problem, worst = None, 1.0
    for name, findings in found.items():
        for finding in findings:
            limit = allowed(case, finding, by_tensor)
            if limit is None:
                continue
            ratio = finding.error / limit if limit > 0 else math.inf if finding.error else 0.0
            ratios[name] = max(ratio, ratios.get(name, 0.0))
            if ratio > worst:
                problem, worst = _sentence(name, finding, limit, ratio), ratio
    return IdentityVerdict(problem=problem, ratios=ratios)


def allowed(case: Case, finding: Finding, truths: Mapping[str, Truth]) -> float | None:
    """Return the budget of a finding, or ``None`` if it depends on a tensor that was not judged."""
    needed = {*finding.row_by_row, *finding.independent, *finding.common}
    if not needed <= truths.keys():
        return None
    largest = {name: _largest(case, name, truths[name], finding) for name in needed}
    total: float = (
        sum(factor * largest[name] for name, factor in finding.row_by_row.items())
        + math.sqrt(sum((factor * largest[name]) ** 2 for name, factor in finding.independent.items()))
        + sum(factor * truths[name].allowed(case, name)[0] for name, factor in finding.common.items())
        + _rounded(case, finding.roundings)
    )
    return total


def _largest(case: Case, name: str, truth: Truth, finding: Finding) -> float:
    """Return the budget of the worst of all rows, relative to the scales that the finding was measured with."""
    answer = truth.answers[name]
    _, of_judged = truth.allowed(case, name)
    judged = math.prod(answer.shape[:2])
    growth = math.sqrt(max(1.0, math.log(max(finding.rows, 2)) / math.log(max(judged, 2))))
    least: float | None = finding.floors.get(name)
    if name == "lse" or least is None:
        return of_judged * growth
    return of_judged * growth * max(1.0, smallest_scale(answer) / least)


def _rounded(case: Case, roundings: int) -> float:
    """Return the error of a sum of weights, each of which is rounded ``roundings`` times before it is added.

    All terms have the same sign, so the errors of their sum need not cancel: the bound is Wilkinson's, n u, and not
    sqrt(n) u.
    """
    if roundings == 0:
        return 0.0
    once = roundoff(case, "out")
    return roundings * once * (1 + 2 * once) + summed_roundoff(case) * (case.seqlen_kv + case.head_dim)


def _sentence(name: str, finding: Finding, limit: float, ratio: float) -> str:
    """Return a sentence that says which identity does not hold, where, and by how much."""
    identity = next(one for one in IDENTITIES if name_of(one) == name)
    place = ", ".join(f"{noun} {i}" for noun, i in zip(("batch", "head", "row"), finding.where, strict=False))
    times = f"{ratio:.3g} times" if math.isfinite(ratio) else "infinitely many times"
    return (
        f"{sentence_of(identity)}; here it does not ({name}): {finding.tensor} is off by {finding.error:.2e} "
        f"at {place}, {times} the {limit:.2e} that rounding explains ({finding.got:.6g} against "
        f"{finding.want:.6g})"
    )
