"""The energy of a call is the difference of a counter divided by the calls, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from attnbench import attention, make_case
from attnbench.stages import energy
from attnbench.stages.energy import Energy, MeasureEnergy
from attnbench.stages.prepare import Prepare
from attnbench.worker.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.registry.implementation import Implementation

RANGE_UJ = 100_000_000


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Make two packages as the kernel shows them; the first one's counter is about to wrap to 0."""
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    folders = [tmp_path / f"intel-rapl:{number}" for number in range(2)]
    for folder, reading in zip(folders, (RANGE_UJ - 3_000_000, 5_000_000), strict=True):
        folder.mkdir()
        (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        (folder / "energy_uj").write_text(f"{reading}\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of a package, which must not be counted twice
    return folders


def burning(folders: list[Path], microjoules: list[int]) -> Implementation:
    """Return a kernel whose calls add these energies to the packages' counters."""

    @attention("mine/burning", dtypes=["float32"], framework="numpy", modes=["forward", "backward"])
    def burn(q: Any, k: Any, v: Any, case: Any) -> Any:
        for folder, spent in zip(folders, microjoules, strict=True):
            reading = folder / "energy_uj"
            reading.write_text(str((int(reading.read_text()) + spent) % RANGE_UJ))
        return np.zeros_like(q)

    @burn.backward
    def gradients(dout: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, case: Any, plan: Any) -> Any:
        return q, k, v

    return burn


def measured(implementation: Implementation, mode: str = "forward", window_ns: int = 5_000_000) -> Energy:
    """Measure the energy of a small case."""
    worker = Worker(implementation)
    case = make_case(seqlen_q=4, heads_q=1, head_dim=4, mode=mode)
    Prepare(case=case, device="cpu", memory_bytes=None).serve(worker)
    return MeasureEnergy(window_ns=window_ns).serve(worker)


def test_all_packages_are_added_up_and_may_start_again_from_0(packages: list[Path]) -> None:
    answer = measured(burning(packages, [2_000_000, 500_000]))
    assert answer.energy_joules == pytest.approx(2.5)
    assert answer.energy_refused is None
    assert answer.measuring_ns >= 5_000_000


def test_a_machine_without_a_counter_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    answer = measured(burning([], []))
    assert answer.energy_joules is None
    assert answer.energy_refused is not None
    assert answer.energy_refused.startswith(f"no counter of energy can be read: {tmp_path} names no package")


def test_a_counter_that_only_root_may_read_says_so(packages: list[Path]) -> None:
    (packages[0] / "energy_uj").unlink()
    (packages[0] / "energy_uj").mkdir()  # not readable even by root
    assert "no counter of energy can be read" in (measured(burning([], [])).energy_refused or "")


def test_the_forward_pass_before_a_backward_one_is_not_counted_as_its_energy(packages: list[Path]) -> None:
    answer = measured(burning(packages, [1, 1]), mode="backward")
    assert answer.energy_joules is None
    assert answer.energy_refused == "what must precede each call would be counted with it"
