"""Cases go to holders and records come back, with an engine whose machines are lost when a test says so."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from attnbench.api.fleet.running import resume_on
from attnbench.api.progress import Log, Progress
from attnbench.api.selection import CellSelection
from attnbench.fleet.driver import Fleet, run_header
from attnbench.fleet.engine import Engine, FleetError, HolderLostError, Place, RemoteHolder
from attnbench.fleet.holder import Held, Introduction, Measured
from attnbench.fleet.luggage import Luggage
from attnbench.fleet.software import Software
from attnbench.runner.planning.plan import Cell
from attnbench.runner.planning.request import Request, plan_request
from attnbench.runner.run import Outcome
from attnbench.store.header import Header
from attnbench.store.reader import RunFile, read_run
from attnbench.store.record import Record
from attnbench.store.writer import RunWriter
from tests.views.conftest import header, record


@pytest.fixture(scope="module")
def request_and_cells() -> tuple[Request, list[Cell]]:
    """Return a request for three cases of two implementations, and its cells."""
    asked = CellSelection.of(include=["naive/numpy", "naive/torch"], axis=["seqlen=16,32,48"], device="cpu")
    request = asked.request(Log(progress=False))
    return request, plan_request(request)


class Machine(RemoteHolder):
    """A holder that answers at once, and is lost during case ``lost_over``, counted from 1."""

    def __init__(self, name: str, key: str, lost_over: int = 0, **held: Any) -> None:
        super().__init__(Place(name, f"{name} cpu", "cpu"))
        self.key, self.lost_over, self.held = key, lost_over, held
        self.cases: list[str] = []
        self.cells: Sequence[Cell] = ()
        self.software = Software({"numpy": "2.0"})

    def call(self, method: str, *arguments: Any) -> object:
        return (self, method, arguments)

    def introduce(self) -> Introduction:
        return Introduction(self.software, frozenset((cell.case.case_id, cell.found.name) for cell in self.cells))

    def hold(self, quick: bool) -> Held:
        of_machine = header(run_id=self.place.node, machine_key=self.key, schema_version=8)
        return Held(Header.model_validate(of_machine), self.held.get("aa_ratio"), self.held.get("engine_cores"))

    def measure(self, case_id: str, names: Sequence[str], replicate: int) -> Measured:
        self.cases.append(case_id)
        if len(self.cases) == self.lost_over:
            raise HolderLostError("it was killed")
        case = next(cell.case for cell in self.cells if cell.case.case_id == case_id)
        lines = [record(case, name, run_id=self.place.node, replicate=replicate) for name in names]
        fields = [{name: value for name, value in line.items() if name != "kind"} for line in lines]
        return Measured([Record.model_validate(one) for one in fields], 0.01)

    def end(self) -> dict[str, float]:
        return {"samples_s": 1.0} | dict.fromkeys(
            (
                *("first_calls_s", "warmup_s", "memory_s", "repeats_s", "shown_s", "imports_s", "oracle_s"),
                *("identities_s", "machine_s", "wall_s"),
            ),
            0.0,
        )


class Machines(Engine):
    """An engine with given machines."""

    name = "Test"

    def __init__(self, *machines: Machine) -> None:
        self.machines = {one.place: one for one in machines}

    def places(self) -> list[Place]:
        return list(self.machines)

    def start(self, place: Place, request: str, luggage: Luggage) -> RemoteHolder:
        return self.machines[place]

    def answered(self, calls: Sequence[object], timeout_s: float) -> list[object]:
        return [*calls][:1]

    def answer(self, call: Any) -> Any:
        machine, method, arguments = call
        return getattr(machine, method)(*arguments)

    def close(self) -> None:
        """Do nothing, as no resources are held."""


Measure = Callable[..., tuple[Outcome, RunFile, list[str]]]


@pytest.fixture
def measured(request_and_cells: tuple[Request, list[Cell]], tmp_path: Path) -> Measure:
    """Return a function that runs the cells on machines; it returns the outcome, the run file and all messages."""
    request, cells = request_and_cells

    def run(*machines: Machine, known: dict[str, Software] | None = None) -> tuple[Outcome, RunFile, list[str]]:
        engine, log = Machines(*machines), Log(progress=False)
        for one in machines:
            one.cells = one.cells or cells
        fleet = Fleet(engine, engine.places(), json.dumps(request.to_dict()), Luggage({}, ()), log.says)
        fleet.require_same(cells, known or {})
        head = run_header(fleet.hold(quick_peaks=None), request, ["run"], cells)
        path = tmp_path / "run.jsonl"
        writer = RunWriter.create(path, head.model_dump(mode="json", exclude={"parts"}))
        with Progress(cells, 0.0, log) as progress:
            outcome = fleet.run(cells, writer, progress, {})
        writer.close()
        return outcome, read_run(path), log.messages

    return run


def test_each_case_is_measured_once_and_records_name_their_machine(measured: Measure) -> None:
    one, other = Machine("n1", "v1-a"), Machine("n2", "v1-b")
    outcome, run, _ = measured(one, other)
    assert (outcome.exit_code, run.warnings, run.is_complete) == (0, [], True)
    assert len({*one.cases, *other.cases}) == len(one.cases) + len(other.cases) == 3
    assert {part.run_id: part.machine_key for part in run.header.parts} == {"n1": "v1-a", "n2": "v1-b"}
    assert run.footer is not None
    assert run.footer.shares["engine_s"] == pytest.approx(0.03)


def test_a_lost_machines_case_is_measured_by_another_of_its_kind(measured: Measure) -> None:
    lost, other = Machine("n1", "v1-a", lost_over=1), Machine("n2", "v1-a")
    outcome, run, said = measured(lost, other)
    assert (outcome.exit_code, run.warnings, {r["run_id"] for r in run.records}) == (0, [], {"n2"})
    assert lost.cases[0] in other.cases
    assert "n1 cpu is lost: it was killed" in said


def test_where_there_is_no_other_of_its_kind_its_cells_say_why_they_are_missing(measured: Measure) -> None:
    lost, other = Machine("n1", "v1-a", lost_over=1), Machine("n2", "v1-b")
    outcome, run, _ = measured(lost, other)
    assert (outcome.exit_code, run.is_complete, len(run.records)) == (4, True, 6)
    missing = [one for one in run.records if one["case_id"] == lost.cases[0]]
    assert {one["layout"] for one in missing} == {"bhsd"}
    reason = "no machine of the kind that has begun this case (v1-a) is left: n1 cpu: it was killed"
    assert {(one["status"], one["stage"], one["reason"], one["run_id"]) for one in missing} == {
        ("crashed", "start", reason, "n1")
    }


def test_where_all_are_lost_the_rest_waits_for_another_sitting(measured: Measure) -> None:
    outcome, run, _ = measured(Machine("n1", "v1-a", lost_over=2))
    assert (outcome.exit_code, outcome.broken) == (3, "no machine is left for 2 cases")
    assert len(run.records) == 2


def test_other_software_is_refused_with_who_has_what(measured: Measure) -> None:
    one, other = Machine("n1", "v1-a"), Machine("n2", "v1-a")
    other.software = Software({"numpy": "2.1"})
    with pytest.raises(FleetError, match=re.escape("numpy is 2.0 on n1 cpu, 2.1 on n2 cpu. Install the same")):
        measured(one, other)
    with pytest.raises(FleetError, match=re.escape("numpy is 1.9 on run.jsonl, 2.0 on n1 cpu")):
        measured(one, known={"run.jsonl": Software({"numpy": "1.9"})})


def test_a_machine_that_does_not_know_the_cells_is_refused(
    measured: Measure, request_and_cells: tuple[Request, list[Cell]]
) -> None:
    one = Machine("n1", "v1-a")
    one.cells = request_and_cells[1][:4]
    with pytest.raises(FleetError, match="n1 cpu does not know 2 cells of this run"):
        measured(one)


def test_a_disturbed_machine_is_told_and_recorded(measured: Measure) -> None:
    _, run, said = measured(Machine("n1", "v1-a", aa_ratio=1.05, engine_cores=0.051))
    assert "n1 cpu is ready; one cell takes 1.05× of its own time in another process; Test keeps 0.051 cores busy" in [
        one.removeprefix("attnbench: ") for one in said
    ]
    assert any("differences of 5.0 % between implementations may mean nothing there" in one for one in said)
    assert (run.header.parts[0].aa_ratio, run.header.parts[0].engine_cores) == (1.05, 0.051)


def test_a_calm_machine_is_not_called_disturbed(measured: Measure) -> None:
    _, _, said = measured(Machine("n1", "v1-a", aa_ratio=1.001))
    assert any("is ready" in one for one in said)
    assert not any("disturbed" in one for one in said)


def test_a_run_goes_on_without_a_device_for_which_no_cell_is_left(
    measured: Measure, request_and_cells: tuple[Request, list[Cell]], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, cells = request_and_cells
    _, run, _ = measured(Machine("n1", "v1-a"))
    machine = Machine("n1", "v1-a")
    machine.cells = cells
    monkeypatch.setattr("attnbench.fleet.ray_engine.RayEngine", lambda address: Machines(machine))
    monkeypatch.setattr(Fleet, "require_same", lambda *_: None)
    every = [*cells, *(dataclasses.replace(cell, device="cuda") for cell in cells)]
    left = [cell for cell in cells if cell.case == cells[-1].case]
    with contextlib.closing(RunWriter.resume(Path(run.path))) as writer:
        on_ray = dataclasses.replace(request, on="ray")
        resume_on(on_ray, dataclasses.replace(run, records=[]), every, left, writer, Log(progress=False))
    assert machine.cases == [left[0].case.case_id]
