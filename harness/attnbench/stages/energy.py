"""Energy: a hardware counter is read before and after calls that fill a window. Nothing is modelled.

A GPU's power sensor is read every 20 to 100 ms (Yang, Adamek, Armour, "Part-time Power Measurements: nvidia-smi's Lack
of Attention", arXiv:2312.02741), so a single call cannot be resolved; in a window of 5 s one such step is 2 % at most.
RAPL's counters of a CPU advance about every millisecond (Intel SDM, volume 3B, "Running Average Power Limit").
"""

from __future__ import annotations

import dataclasses
import math
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from attnbench.metrics.metric import Metrics, metric
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.transport.message import AnswerMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnbench.worker.session import Session
    from attnbench.worker.worker import Worker

WINDOW_NS = 5_000_000_000
RAPL = Path("/sys/class/powercap")
_QUEUED = 16
"""Calls that are queued on an accelerator before it is synchronized."""


class EnergyMetrics(Metrics, stage="energy"):
    """The energy of one call."""

    energy_joules: float | None = metric(
        "energy",
        "Energy of the whole package or card, idle power and other work included, over the calls of a window of 5 s.",
        unit="J", join="median", only_ok=True, better="lower",
    )  # fmt: skip
    energy_refused: str | None = metric("no energy", "Why there is no energy_joules.", unit="text")


class Energy(EnergyMetrics, AnswerMessage):
    """The energy of one call, or the reason why it is unknown."""

    measuring_ns: int = 0


class MeasureEnergy(WorkerRequest[Energy]):
    """Make calls for the length of the window, between two readings of the counter."""

    window_ns: int = WINDOW_NS

    def serve(self, worker: Worker) -> Energy:
        session = worker.session
        call = session.prepared()
        if call.needs_set_up:
            return Energy(energy_refused="what must precede each call would be counted with it")
        with ExitStack() as opened:
            try:
                counter = _counter(session, opened)
            except (OSError, ValueError) as error:
                return Energy(energy_refused=f"no counter of energy can be read: {error}")
            start, before, calls = perf_counter_ns(), counter.read(), 0
            while not calls or perf_counter_ns() - start < self.window_ns:
                calls += _some_calls(session, call.run)
            readings = zip(before, counter.read(), counter.wraps_at, strict=True)
            joules = sum((now - then) % wraps_at for then, now, wraps_at in readings)
            return Energy(energy_joules=joules / calls, measuring_ns=perf_counter_ns() - start)


def _some_calls(session: Session, run: Callable[[], object]) -> int:
    """Make some calls, wait for them, and return their number."""
    if session.accelerator is None:
        run()
        return 1
    for _ in range(_QUEUED):
        run()
    session.accelerator.synchronize()
    return _QUEUED


@dataclasses.dataclass(frozen=True)
class _Counter:
    """One or several energy registers, in joules."""

    read: Callable[[], list[float]]
    """Read each register."""
    wraps_at: Sequence[float]
    """The value at which each register wraps to 0."""


def _counter(session: Session, opened: ExitStack) -> _Counter:
    """Return the counter of the device that runs the calls: the CPU packages, or the process's GPU.

    Raises:
        OSError, ValueError: if it has none, or this process may not read it.
    """
    if session.accelerator is None:
        return _packages()
    from attnbench.machine.hardware.devices import NoGPUError, nvml, visible_gpus

    try:
        library = opened.enter_context(nvml())
        card = visible_gpus(library)[0]
    except NoGPUError as error:
        raise ValueError(str(error)) from error
    counter = _Counter(lambda: [library.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3], [math.inf])
    try:
        counter.read()
    except library.NVMLError as error:
        raise ValueError(str(error)) from error
    return counter


def _packages() -> _Counter:
    """Return the counter of this machine's packages (Linux, Documentation/power/powercap)."""
    packages = sorted(RAPL.glob("intel-rapl:[0-9]"))
    if not packages:
        raise FileNotFoundError(f"{RAPL} names no package (RAPL is missing, as on most virtual machines)")

    def read(name: str = "energy_uj") -> list[float]:
        return [int((package / name).read_text()) / 1e6 for package in packages]

    read()
    return _Counter(read, read("max_energy_range_uj"))


def run(cell: CellRun) -> None:
    """Measure; if that is impossible the record gives the reason."""
    answer = cell.ask(MeasureEnergy())
    cell.spent.memory += answer.measuring_ns
    cell.keep(answer)


STAGE = Stage(
    name="energy", requests=(MeasureEnergy,), run=run, is_wanted=lambda cell: "energy" in cell.limits.measures
)
