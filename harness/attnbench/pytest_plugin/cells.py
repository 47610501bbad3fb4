"""Collected by ``pytest --attnbench SCENARIO``: one benchmark per cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from attnbench.pytest_plugin.in_process import REFUSED, about, prepared, run_here

if TYPE_CHECKING:
    from attnbench.runner.oracle import Oracle
    from attnbench.runner.planning.plan import Cell


def test_cell(attnbench_cell: Cell, attnbench_oracle: Oracle, benchmark: Any) -> None:
    """Check agreement and memory, then time the call; a wrong kernel is not timed."""
    if attnbench_cell.preset_outcome is not None:
        pytest.skip(": ".join(attnbench_cell.preset_outcome))
    fields = run_here(attnbench_oracle, attnbench_cell)
    if fields["status"] in REFUSED:
        pytest.skip(f"{fields['status']}: {fields['reason']}")
    if fields["status"] != "ok":
        pytest.fail(f"{fields['status']}: {fields['reason']}\n    {attnbench_cell.repro}", pytrace=False)
    benchmark.group = attnbench_cell.case.label()
    benchmark.extra_info.update(about(attnbench_cell, fields))
    with prepared(attnbench_cell) as call:
        if call.set_up is not None:
            benchmark.pedantic(call.run, setup=call.set_up, rounds=call.rounds)
        else:
            benchmark.pedantic(call.run, rounds=call.rounds, iterations=call.iterations)
