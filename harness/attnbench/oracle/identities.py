"""The verdict on an identity: is what was found more than an implementation within its budgets can make of it?

An identity has no budget of its own. The budgets of the tensors in it are known (:mod:`attnbench.oracle.budget`), and
its coefficients say what becomes of them: two answers within budget differ by twice the budget; errors of many rows add
up with the root of their number, or are one factor that is common to all of them.

Where the oracle judges a sample of rows, the largest error of all rows is to be expected above that of the sample.
Rounding errors of a row are sums of independent bounded ones, whose tails fall like a Gaussian's (Hoeffding 1963, as in
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
    """Judge what a worker found.

    The truths are of the first inputs and of those that were looked at, which may have no gradients of keys.
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
    """The budget of a finding; ``None`` where it takes a tensor that was not judged."""
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
    """The budget of any row, on the scales that the finding was measured on."""
    answer = truth.answers[name]
    _, of_judged = truth.allowed(case, name)
    judged = math.prod(answer.shape[:2])
    growth = math.sqrt(max(1.0, math.log(max(finding.rows, 2)) / math.log(max(judged, 2))))
    least: float | None = finding.floors.get(name)
    if name == "lse" or least is None:
        return of_judged * growth
    return of_judged * growth * max(1.0, smallest_scale(answer) / least)


def _rounded(case: Case, roundings: int) -> float:
    """The error of a sum of weights each of which is rounded so often, and then added to what was summed before.

    All terms have one sign here, so the errors of adding them up have no reason to cancel: the bound is n u, that of
    Wilkinson, not the square root of n.
    """
    if roundings == 0:
        return 0.0
    once = roundoff(case, "out")
    return roundings * once * (1 + 2 * once) + summed_roundoff(case) * (case.seqlen_kv + case.head_dim)


def _sentence(name: str, finding: Finding, limit: float, ratio: float) -> str:
    """Which identity does not hold, where, and by how much."""
    identity = next(one for one in IDENTITIES if name_of(one) == name)
    place = ", ".join(f"{noun} {i}" for noun, i in zip(("batch", "head", "row"), finding.where, strict=False))
    times = f"{ratio:.3g} times" if math.isfinite(ratio) else "infinitely many times"
    return (
        f"{sentence_of(identity)}; here it does not ({name}): {finding.tensor} is off by {finding.error:.2e} "
        f"at {place}, {times} the {limit:.2e} that rounding explains ({finding.got:.6g} against "
        f"{finding.want:.6g})"
    )
