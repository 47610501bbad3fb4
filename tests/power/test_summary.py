"""The figures of docs/gate-power.md, and other tools' rules, for numbers with a known answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.power.other_rules import judge_by_others
from tests.power.summary import summary


def line(
    kind: str, verdict: str, fault: str | None = None, detectable: float = 0.04, ratio: float = 1.0
) -> dict[str, Any]:
    """Return the line of a gate with one cell."""
    said: dict[str, Any] = {"case_id": "c", "implementation": "i", "metric": "time", "verdict": verdict}
    said |= {"detectable": detectable, "ratio": ratio}
    return {
        "kind": kind, "at": "2026-11-24T00:00:00", "machine_key": "k", "wall_s": 100.0,
        "confirmed": False, "common": [], "load_average": [1.5, 1.0, 1.0],
        "verdicts": [{**said, "noise_sd": 0.01}],
        "others": [{"case_id": "c", "implementation": "i", "fault": fault, "slower": {"asv": True}}],
    }  # fmt: skip


def test_alarms_are_counted_by_gate_with_what_so_few_of_them_prove() -> None:
    page = summary([line("unchanged", "same"), line("unchanged", "slower"), line("unchanged", "ambiguous")])
    assert "| gates with any alarm | 1 of 3: the rate is at most 86 %, with 95 % confidence |" in page
    assert "| times called ambiguous | 1 of 3, in 1 of 3 gates |" in page
    assert "too few for error rates" in page


def test_faults_are_found_missed_or_worse() -> None:
    fault = "5 % slower"
    page = summary([
        line("faults", "slower", fault), line("faults", "ambiguous", fault),
        line("faults", "same", fault, detectable=0.08), line("faults", "same", fault, detectable=0.04),
    ])  # fmt: skip
    assert "| 5 % slower | 1 of 4 | 1 | 2 | 1 |" in page


def test_each_cell_with_a_fault_is_a_trial_of_its_own() -> None:
    gate = line("faults", "slower", "5 % slower")
    for name in ("verdicts", "others"):
        gate[name].append({**gate[name][0], "case_id": "d"})
    gate["verdicts"][1]["verdict"] = "same"
    assert "| 5 % slower | 1 of 2 | 0 | 1 | 1 |" in summary([gate])


def test_what_slowed_cells_took_is_told_beside_what_they_should() -> None:
    page = summary([line("faults", "slower", "5 % slower", ratio=ratio) for ratio in (1.04, 1.052, 1.06)])
    assert "| 5 % slower | 5.2 % | 4.0 % to 6.0 % |" in page


def test_unchanged_cells_of_fault_gates_are_counted_apart() -> None:
    page = summary([line("unchanged", "same"), line("faults", "slower"), line("faults", "same", "5 % slower")])
    assert "| gates with any alarm | 0 of 1:" in page
    assert "| unchanged cells of fault gates with an alarm on time | 1 of 1 |" in page


def test_other_rules_stand_beside_the_gate_on_the_same_cells() -> None:
    page = summary([line("unchanged", "same"), line("faults", "slower", "10 % slower")])
    assert "| attnbench gate | 0 of 1 | 0 of 0 | 1 of 1 | 0 of 0 |" in page
    assert "| asv | 1 of 1 | 0 of 0 | 1 of 1 | 0 of 0 |" in page


@pytest.mark.parametrize(
    ("factor", "slower"),
    [
        (1.0, set()),
        (1.03, {"Mann-Whitney 0.05", "criterion"}),
        (1.08, {"Mann-Whitney 0.05", "criterion", "pytest-benchmark min:5%", "pytest-benchmark mean:5%"}),
        (1.2, {"Mann-Whitney 0.05", "criterion", "pytest-benchmark min:5%", "pytest-benchmark mean:5%", "asv"}),
        (0.8, set()),
    ],
)
def test_other_rules_on_samples_without_a_process_effect(factor: float, slower: set[str]) -> None:
    rng = np.random.default_rng(0)
    base, head = (1e6 * (1 + 0.005 * rng.standard_normal((2, 30))) for _ in range(2))
    assert {name for name, said in judge_by_others(base.tolist(), (factor * head).tolist()).items() if said} == slower
