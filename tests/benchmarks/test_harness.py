"""Times the harness itself with pytest-benchmark: ``pytest tests/benchmarks --benchmark-enable``.

In the test suite each benchmark runs once, untimed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from attnbench import make_case
from attnbench.cases.inputs.operands import operand
from attnbench.oracle.judge import find_truth
from attnbench.oracle.selection import select
from attnbench.store.reader import load
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario
from tests.conftest import REPOSITORY

REFERENCE = REPOSITORY / "results" / "reference" / "quick.jsonl"


def test_expanding_edge_shapes(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(lambda: expand(load_scenario("edge-shapes"), {}))) > 100


def test_making_inputs(benchmark: BenchmarkFixture) -> None:
    case = make_case(heads_q=8, seqlen_q=1024)
    assert benchmark(operand, case, "q").shape == (1, 8, 1024, 64)


@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_finding_the_truth(benchmark: BenchmarkFixture, mode: str) -> None:
    case = make_case(heads_q=8, seqlen_q=512, dtype="bfloat16", mode=mode)
    assert "out" in benchmark(find_truth, case, select(case), 0).answers


def test_reading_ten_thousand_records(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    header, *records = [line for line in REFERENCE.read_text().splitlines() if '"kind":"footer"' not in line]
    path = tmp_path / "many.jsonl"
    copies = 10_000 // len(records) + 1
    cells = [
        record.replace('"replicate":', f'"replicate":{copy}') for copy in range(1, copies + 1) for record in records
    ]
    path.write_text("\n".join([header, *cells]) + "\n")
    assert json.loads(header)["kind"] == "header"
    assert len(benchmark(load, path)) == copies * len(records)
