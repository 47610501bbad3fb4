"""Calibration estimates the noise of its rounds, and counts the alarms that gates would raise on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnbench.gate.calibration import CalibrationError, calibrate, draw_gates, noise_floors, read_calibration
from attnbench.gate.judge.statistics import Rules
from attnbench.gate.measure.rounds import Round
from attnbench.store.reader import read_run
from tests.gate.conftest import CELLS, ONE
from tests.views.conftest import timed, write


def rounds(folder: Path, count: int = 20, noise: float = 0.01, noisy_one: float = 0.05) -> list[Round]:
    rng = np.random.default_rng(2)

    def run(number: int, name: str) -> Path:
        lines = [
            timed(case, implementation, 1e6 * float(np.exp(
                (noisy_one if (case.case_id, implementation) == ONE else noise) * rng.standard_normal() / np.sqrt(2)
            )))
            for case, implementation in CELLS
        ]  # fmt: skip
        return write(folder / f"{number}-{name}.jsonl", lines)

    return [
        Round(stage="screen", number=n, first="base", base=read_run(run(n, "base")), head=read_run(run(n, "head")))
        for n in range(count)
    ]


def test_each_cell_has_its_own_noise_and_floor(tmp_path: Path) -> None:
    measured = rounds(tmp_path)
    found = calibrate(measured, Rules(), seed=0)
    by_cell = {one.cell: one for one in found.cells}
    noisy = by_cell.pop(f"{ONE[0]} {ONE[1]} cpu")
    processes = [line for one in measured for run in (one.base, one.head) for line in run.records]
    times = [line["time_median_ns"] for line in processes if (line["case_id"], line["implementation"]) == ONE]
    assert noisy.time_ns == np.median(times), "of both sides"
    assert noisy.noise_sd == pytest.approx(0.05, rel=0.4)
    assert np.median([one.noise_sd for one in by_cell.values()]) == pytest.approx(0.01, rel=0.2)
    # 95 % of the means of eight pairs are within 1.96 sd / sqrt(8)
    assert np.median([one.floor for one in by_cell.values()]) == pytest.approx(1.96 * 0.01 / np.sqrt(8), rel=0.25)
    assert found.floors[noisy.cell] == noisy.floor > 0.02
    assert found.gates_with_alarm <= 0.02
    assert found.rounds == 20


def test_gates_that_tolerate_less_than_the_noise_raise_alarms() -> None:
    logs = 0.05 * np.random.default_rng(3).standard_normal((30, 20))
    logs[0] += np.array([0.5, -0.5] * 10)  # like a machine that is twice as slow in every other round
    assert draw_gates(logs, Rules(delta=0.0001), np.random.default_rng(0))[1] > 0.02


def test_the_floor_grows_with_the_noise() -> None:
    logs = 0.01 * np.random.default_rng(3).standard_normal((30, 20))
    rng = np.random.default_rng
    assert np.mean(noise_floors(3 * logs, Rules(), rng(0))) > 2.5 * np.mean(noise_floors(logs, Rules(), rng(0)))


def test_it_is_read_back_and_refused_elsewhere(tmp_path: Path) -> None:
    found = calibrate(rounds(tmp_path, count=4), Rules(), seed=0)
    path = tmp_path / "calibration.json"
    path.write_text(found.model_dump_json())
    assert read_calibration(path, machine_key="v1-aaaa", threads=2) == found
    with pytest.raises(CalibrationError, match="of another machine"):
        read_calibration(path, machine_key="v1-bbbb", threads=2)
    with pytest.raises(CalibrationError, match="made with 2 threads, and this gate uses 1"):
        read_calibration(path, machine_key="v1-aaaa", threads=1)
    path.write_text("{}")
    with pytest.raises(CalibrationError, match="is no calibration"):
        read_calibration(path, machine_key="v1-aaaa", threads=2)
