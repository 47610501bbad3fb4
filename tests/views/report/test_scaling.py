"""Laws in the report: contradictions are reported, budgets become lengths, crossovers name the right sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from attnbench.cases.case import make_case
from attnbench.scaling import Scaling
from attnbench.views.report.blocks import Contradiction
from attnbench.views.report.charts.marks import marks_of
from attnbench.views.report.content import report_of, sources_of
from attnbench.views.report.curves import curves_of
from attnbench.views.report.page import html_page
from attnbench.views.report.sections.results import memory as budgets
from attnbench.views.report.sections.results.scaling import scaling_blocks
from tests.views.conftest import timed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnbench.store.reader import RunFile
    from attnbench.views.report.curves import ScalingCurve

LENGTHS = (128, 256, 512, 1024, 2048, 4096)


def run(run_of: Callable[..., RunFile], declared: str) -> RunFile:
    """Return a run with a curve whose memory is quadratic, and another curve that overtakes it at 1000."""
    lines = []
    for n in LENGTHS:
        case = make_case(seqlen_q=n)
        lines.append(timed(case, "a/square", 1e3 * n, memory_peak_bytes=4 * n * n))
        lines.append(timed(case, "b/flat", 1e6 * (n / 1000) ** 0.5, memory_peak_bytes=512 * n))
    declarations = {name: {"declaration": {"memory": declared}} for name in ("a/square", "b/flat")}
    return run_of(lines, implementations=declarations)


def laws_of(run: RunFile) -> list[ScalingCurve]:
    return curves_of(sources_of([run]))


def blocks_of(laws: Sequence[ScalingCurve]) -> tuple[list[Any], list[Any]]:
    return scaling_blocks(laws, marks_of(["a/square", "b/flat"]))


def test_a_memory_law_that_contradicts_the_declaration_is_said_on_the_page(run_of: Callable[..., RunFile]) -> None:
    measured = run(run_of, "O(n)")
    blocks, _ = blocks_of(laws_of(measured))
    (found,) = [block for block in blocks if isinstance(block, Contradiction)]
    assert found.text.startswith("a/square declares O(n) memory, but it grows with an exponent of 2.00")
    assert found.text in html_page(report_of([measured]))
    blocks, _ = blocks_of(laws_of(run(run_of, "O(n^2)")))
    assert not [block for block in blocks if isinstance(block, Contradiction)]


@pytest.mark.parametrize("dtypes", [("float32",), ("float32", "float64")])
def test_curves_without_a_law_are_told_only_where_there_are_some(
    run_of: Callable[..., RunFile], monkeypatch: pytest.MonkeyPatch, dtypes: tuple[str, ...]
) -> None:
    for module in ("curves", "sections.results.scaling"):
        monkeypatch.setattr(f"attnbench.views.report.{module}.MOST_FITS", 2)
    lines = [timed(make_case(seqlen_q=n, dtype=dtype), "a/a", 1e3 * n) for dtype in dtypes for n in LENGTHS]
    page = html_page(report_of([run_of(lines)]))
    assert ("first groups of cases only (2 curves)" in page) == (len(dtypes) > 1)


def test_the_largest_length_within_a_budget_follows_from_the_law(run_of: Callable[..., RunFile]) -> None:
    (square,) = [
        one for one in laws_of(run(run_of, "O(n)")) if (one.implementation, one.quantity) == ("a/square", "memory")
    ]
    assert isinstance(square.law, Scaling)
    assert budgets._fitting(square.law, 4 * 2000**2) == "2,000"
    assert budgets._fitting(square.law, 4 * 20_000**2) == "20,000*"
    assert budgets._fitting(square.law, 4.0 * 10**16) == "> 256k*"


def test_a_crossover_says_who_is_faster_on_which_side(run_of: Callable[..., RunFile]) -> None:
    _, exports = blocks_of(laws_of(run(run_of, "O(n)")))
    (meets,) = [export for export in exports if export.stem == "crossovers"]
    (row,) = meets.rows
    assert (row["from"], row["to"]) == ("a/square", "b/flat")
    assert row["seqlen"] == pytest.approx(1000, rel=0.01)
    assert row["seqlen_low"] < 1000 < row["seqlen_high"]


def test_numbers_of_the_laws_are_exported_flat(run_of: Callable[..., RunFile]) -> None:
    _, exports = blocks_of(laws_of(run(run_of, "O(n)")))
    (laws,) = [export for export in exports if export.stem == "scaling"]
    row = next(row for row in laws.rows if (row["implementation"], row["quantity"]) == ("b/flat", "memory"))
    assert row["exponent"] == pytest.approx(1.0, abs=0.01)
    assert row["exponent_low"] <= 1.0 <= row["exponent_high"]
    assert row["sizes"] == 6
