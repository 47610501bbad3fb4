"""The order of stages, where a cell ends, and which values are kept; worker and oracle are scripted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from attnbench import make_case
from attnbench.identities.identity import Finding
from attnbench.runner.driver import drive, without_pauses
from attnbench.stages.agreement import Show
from attnbench.stages.backend import TellBackend
from attnbench.stages.call import Called, FirstCalls, FreshCall
from attnbench.stages.identities import CheckIdentities, Findings
from attnbench.stages.memory import Measured, MeasureMemory
from attnbench.stages.prepare import Close, Prepare
from attnbench.stages.stage import CellRun, Company
from attnbench.stages.table import CHECKED, STAGES
from attnbench.stages.time.samples import EndVisits, PassSamples, TakeSamples, Timed, Visit, Visited, WarmUp
from attnbench.transport.executor import ExecutorError
from attnbench.transport.message import AnswerMessage, Done, RequestMessage
from attnbench.worker.timing import SamplingLimits
from tests.runner.scripted import ANSWERS, TIMED, UNKNOWN, Agreeing, Scripted, limits, values_of, visits_ended

GONE = ExecutorError("crashed", "it was ended by SIGSEGV", is_gone=True)
DISTURBED = "3 of 10 samples were disturbed: throttled: sw_thermal"


def test_a_gpu_has_its_other_times_after_the_timed_output_was_judged() -> None:
    worker = Scripted()
    found = values_of(worker)
    assert worker.names == [
        *("Prepare", "FirstCalls", "Show", "TakeSamples", "Show", "MeasureExtraTimes", "CheckIdentities"),
        *("MeasureMemory", "TellBackend", "Close"),
    ]
    assert (found["status"], found["cache_state"], found["time_wall_ns"]) == ("ok", "cold", 9.0)
    assert found["time_method"].startswith("CUDA events")
    assert found["time_kernel_ns"] == 3.0


def test_a_cpu_is_not_asked_for_them() -> None:
    worker = Scripted()
    values_of(worker, "cpu")
    assert "MeasureExtraTimes" not in worker.names


def test_where_nothing_is_timed_a_call_on_fresh_inputs_is_judged_in_its_place() -> None:
    worker = Scripted()
    found = values_of(worker, measures=frozenset())
    assert worker.names == [
        *("Prepare", "FirstCalls", "Show", "FreshCall", "Show", "CheckIdentities", "TellBackend", "Close")
    ]  # fmt: skip
    assert not [name for name in found if name.startswith(("time_", "memory_"))]
    assert found["backend"] == "kernels: flash"


def test_fewer_stages_are_another_list() -> None:
    worker = Scripted()
    steps = drive(CellRun(worker, Agreeing(), make_case(), "cpu", limits(measures=frozenset({"memory"}))), CHECKED)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value["status"] == "ok"
    assert worker.names == ["Prepare", "FirstCalls", "Show", "FreshCall", "Show", "Close"]


def test_each_of_the_results_that_differ_is_judged() -> None:
    called = Called(first_call_ns=7, later_calls_ns=1, deterministic=False, spread_rel=0.1, results=2)
    worker, oracle = Scripted({FirstCalls: called}), Agreeing(ratios=(0.25, 0.75, 0.5))
    found = values_of(worker, oracle=oracle)
    assert [one.result for one in worker.asked if isinstance(one, Show)] == [0, 1, 0]
    assert (found["out_error_ratio"], found["out_error_rel"]) == (0.75, 0.075), "the worst of all of them is told"


def test_disturbed_samples_make_the_cell_invalid_and_leave_no_time() -> None:
    found = values_of(Scripted({TakeSamples: TIMED.model_copy(update={"unusable": DISTURBED})}))
    assert (found["status"], found["stage"], found["reason"]) == ("invalid", "time", DISTURBED)
    assert not [name for name in found if name.startswith(("time_", "memory_"))]
    assert (found["first_call_ns"], found["cache_state"]) == (7, "cold"), "what any cell may carry stays"


def test_a_wrong_kernel_is_wrong_even_where_its_samples_were_disturbed() -> None:
    worker = Scripted({TakeSamples: TIMED.model_copy(update={"unusable": DISTURBED})})
    found = values_of(worker, oracle=Agreeing(wrong_on=1))
    assert (found["status"], found["stage"]) == ("wrong", "agreement")
    assert found["reason"] == "out: wrong (on fresh inputs, timed)"
    assert worker.names[-2:] == ["Show", "Close"], "nothing more is measured of it"


@pytest.mark.parametrize(
    ("request_kind", "stage"),
    [
        (Prepare, "prepare"),
        (FirstCalls, "call"),
        (TakeSamples, "time"),
        (CheckIdentities, "agreement"),
        (MeasureMemory, "memory"),
        (TellBackend, "backend"),
    ],
)
def test_what_goes_wrong_has_the_stage_where_it_did(request_kind: type[RequestMessage[Any]], stage: str) -> None:
    refusal = ExecutorError("error", "ValueError: no")
    worker = Scripted({request_kind: refusal})
    found = values_of(worker)
    assert (found["status"], found["stage"], found["reason"]) == ("error", stage, "ValueError: no")
    assert worker.names[-2:] == [request_kind.__name__, "Close"]
    assert not [name for name in found if name.startswith(("time_", "memory_"))]


def test_nothing_more_is_asked_of_a_worker_that_is_gone() -> None:
    worker = Scripted({FirstCalls: GONE})
    cell = CellRun(worker, Agreeing(), make_case(), "cpu", limits(), unknown=UNKNOWN)
    with pytest.raises(StopIteration) as end:
        next(drive(cell, STAGES))
    assert end.value.value["status"] == "crashed"
    assert worker.names == ["Prepare", "FirstCalls"]
    assert cell.worker_died


def test_a_worker_that_dies_when_the_cell_is_over_leaves_the_cell_ok_and_is_not_kept() -> None:
    cell = CellRun(Scripted({Close: GONE}), Agreeing(), make_case(), "cpu", limits(), unknown=UNKNOWN)
    assert without_pauses(drive(cell, STAGES))["status"] == "ok"
    assert cell.worker_died


def test_a_worker_that_took_too_long_is_told_in_the_cells_own_terms() -> None:
    late = ExecutorError("timeout", "it took more than 0.001 s and was killed", is_gone=True)
    found = values_of(Scripted({TakeSamples: late}), time_s=4)
    assert (found["status"], found["reason"]) == ("timeout", "the cell took more than its 4 s; its worker was killed")


def test_all_stages_of_a_cell_share_its_time_and_the_oracles_does_not_count() -> None:
    class Slow(Agreeing):
        def ask(self, request: Any) -> Any:
            time.sleep(0.05)
            return super().ask(request)

    worker = Scripted()
    values_of(worker, oracle=Slow(), time_s=60)
    first, last = worker.deadlines_s[0], worker.deadlines_s[-1]
    oracles_s = 4 * 0.05  # two selections, two verdicts
    assert 60 >= first > last > first - oracles_s


def test_an_oracle_that_dies_costs_the_cell() -> None:
    found = values_of(Scripted(), oracle=Agreeing(fails=True))
    assert (found["status"], found["stage"]) == ("error", "agreement")
    assert "the oracle could not judge it" in found["reason"]


def test_memory_that_cannot_be_measured_leaves_the_cell_ok_with_the_reason() -> None:
    found = values_of(Scripted({MeasureMemory: Measured(refused="not here")}))
    assert (found["status"], found["reason"]) == ("ok", "memory was not measured: not here")
    assert "memory_peak_bytes" not in found


def test_identities_are_judged_where_there_are_findings() -> None:
    findings = Findings(
        found={"values-of-one": (Finding(tensor="out", error=0, where=(0,), got=1, want=1),)}, left_out={}
    )
    found = values_of(Scripted({CheckIdentities: findings}))
    assert (found["identities"], found["identity_error_ratio"]) == (("values-of-one",), 0.5)


@pytest.mark.parametrize("timed", [True, False])
def test_identities_may_cost_a_quarter_of_the_timing_and_no_other_case(timed: bool) -> None:
    worker = Scripted()
    values_of(worker, measures=frozenset({"time"} if timed else ()))
    (asked,) = [one.allowance for one in worker.asked if isinstance(one, CheckIdentities)]
    if timed:
        assert asked.time_ns == (8e6 + 10 * 40_000) / 4
    else:
        assert 20e9 < asked.time_ns <= 30e9
    assert (asked.prepare_ns == 0) == timed
    assert asked.memory_bytes == 2**29


class TestVisits:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Doubt no visit: next to other work, even a visit without calls may take a millisecond."""
        monkeypatch.setattr("attnbench.stages.time.visits.perf_counter_ns", lambda: 0)

    def test_others_may_run_before_the_warm_up_and_before_each_visit(self) -> None:
        worker = Scripted()
        cell = CellRun(
            worker, Agreeing(), make_case(), "cpu", limits(visits=4, warmup_ns=10, warmup_calls=3), unknown=UNKNOWN
        )
        seen: list[list[str]] = []
        for _ in drive(cell, STAGES):
            seen.append(worker.names)
            worker.asked, before = [], worker.asked
            if isinstance(before[0], WarmUp):
                assert (before[0].min_ns, before[0].max_calls) == (10, 3)
        assert seen == [
            ["Prepare", "FirstCalls", "Show"],
            ["WarmUp", *(["PassSamples"] * 4)],
            *([["Resume", "Visit"]] * 3),
        ]
        assert worker.names[:4] == ["Resume", "Visit", "EndVisits", "Show"]

    def test_where_their_number_is_given_all_samples_are_shared_out(self) -> None:
        worker = Scripted()
        found = values_of(worker, "cpu", visits=4, sampling=SamplingLimits(min_samples=10, max_samples=10))
        sizes = [one.max_samples for one in worker.asked if isinstance(one, Visit)]
        assert sizes == [2, 2, 2, 3]
        assert found["time_visits"] == (2, 2, 2, 4), "the last sample is asked for by itself"

    def test_more_visits_than_samples_are_not_made(self) -> None:
        sampling = SamplingLimits(min_samples=3, max_samples=3)
        assert values_of(Scripted(), "cpu", visits=6, sampling=sampling)["time_visits"] == (1, 2)

    @pytest.mark.parametrize(
        ("call_ms", "sampling_s", "visits"),
        [
            (1, 1.0, (19, 20, 20, 20, 20, 20, 20, 20, 20, 21)),
            (8, 1.0, (13,) * 9 + (14,)),
            (120, 1.0, (1,) * 8 + (2,)),
            (5_000, 1.0, (1, 1, 2)),
            (8, 0.2, (5, 5, 5, 5, 6)),
            (8, 0.02, (1, 1, 2)),
        ],
    )
    def test_samples_and_time_are_shared_out_between_ten_visits(
        self, call_ms: int, sampling_s: float, visits: tuple[int, ...]
    ) -> None:
        taken: list[float] = []

        def visited(request: RequestMessage[Any]) -> Visited:
            assert isinstance(request, Visit)
            count = min(request.max_samples, math.ceil(request.max_ns / (call_ms * 1e6)))
            taken.extend([call_ms * 1e6] * count)
            return Visited(samples=count, median_ns=call_ms * 1e6, called_ns=call_ms * 1e6 * count)

        def end(request: RequestMessage[Any]) -> Timed:
            assert isinstance(request, EndVisits)
            return visits_ended((*taken, call_ms * 1e6))

        sampling = SamplingLimits(sampling_ns=int(sampling_s * 1e9))
        found = values_of(Scripted({Visit: visited, EndVisits: end}), "cpu", sampling=sampling)
        assert found["time_visits"] == visits

    def test_before_the_visits_of_a_long_call_there_is_no_other_call_but_once(self) -> None:
        worker = Scripted(
            {Visit: Visited(samples=1, median_ns=1e9, called_ns=1e9), EndVisits: ExecutorError("error", "")}
        )
        values_of(worker, "cpu")
        assert worker.names.count("Visit") == 3
        assert worker.names.count("Resume") == 1

    def test_a_pause_does_not_count_against_the_cells_time(self) -> None:
        worker = Scripted()
        for _ in drive(CellRun(worker, Agreeing(), make_case(), "cpu", limits(visits=2), unknown=UNKNOWN), STAGES):
            time.sleep(0.1)
        assert worker.deadlines_s[-1] > worker.deadlines_s[0] - 0.3

    def test_on_a_gpu_there_are_none(self) -> None:
        worker = Scripted()
        values_of(worker, "cuda", visits=4)
        assert {"TakeSamples"} == {"TakeSamples", "EndVisits"} & set(worker.names)


def test_every_request_of_a_stage_is_in_the_script() -> None:
    """Stages that are added later are driven by these tests, too."""
    assert {request for stage in STAGES for request in stage.requests} <= ANSWERS.keys()
    assert EndVisits in ANSWERS
    assert FreshCall in ANSWERS


def test_energy_is_measured_where_it_is_asked_for() -> None:
    worker = Scripted()
    values = values_of(worker, measures=frozenset({"energy"}))
    assert values["energy_joules"] == 0.5
    assert worker.names[-3:] == ["MeasureEnergy", "TellBackend", "Close"]
    assert "energy_joules" not in values_of(Scripted())


class TestTheRunnersOwnClock:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        now = [0]
        monkeypatch.setattr("attnbench.stages.time.visits.perf_counter_ns", lambda: now[0])
        return now

    def visits(self, clock: list[int], *took_ms: float) -> Callable[[RequestMessage[Any]], AnswerMessage]:
        """Script visits of 9 samples of 40 us that take ``took_ms`` by the runner's clock; the last one repeats."""
        left = iter(took_ms)

        def take(request: RequestMessage[Any]) -> Visited:
            assert isinstance(request, Visit)
            clock[0] += int(next(left, took_ms[-1]) * 1e6)
            return Visited(samples=9, median_ns=40_000.0, called_ns=360_000.0)

        return take

    def test_samples_that_take_longer_time_and_again_are_invalid(self, clock: list[int]) -> None:
        worker = Scripted({Visit: self.visits(clock, 0.36, 0.36, 20)})
        found = values_of(worker, "cpu")
        assert worker.names.count("Visit") == 2 + 26  # of 20 ms each: half a second after the first
        assert (found["status"], found["stage"]) == ("invalid", "time")
        assert found["reason"] == "by the worker's clock its samples took 9.36 ms, by the runner's 520 ms"

    @pytest.mark.parametrize(
        ("load", "is_here", "said"),
        [
            (7.26, True, "; other work may be the cause: the load is 7.3 on 2 processors"),
            (1.9, True, ""),
            (7.26, False, ""),
        ],
    )
    def test_where_the_machine_is_busy_that_is_said_too(
        self, clock: list[int], monkeypatch: pytest.MonkeyPatch, load: float, is_here: bool, said: str
    ) -> None:
        monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        worker = Scripted({Visit: self.visits(clock, 20)})
        cell = CellRun(
            worker, Agreeing(), make_case(), "cpu", limits(), unknown=UNKNOWN, company=Company(is_here=is_here)
        )
        assert without_pauses(drive(cell, STAGES))["reason"].partition(" ms, by the runner's ")[2].endswith(f"s{said}")

    def test_what_is_wrong_is_called_wrong_whatever_its_times_are(self, clock: list[int]) -> None:
        worker = Scripted({Visit: self.visits(clock, 20)})
        found = values_of(worker, "cpu", oracle=Agreeing(wrong_on=1))
        assert (found["status"], found["reason"]) == ("wrong", "out: wrong (on fresh inputs, timed)")

    def test_a_visit_in_doubt_is_left_out_and_made_again(self, clock: list[int]) -> None:
        worker = Scripted({Visit: self.visits(clock, 0.36, 50, 50, 0.36)})
        found = values_of(worker, "cpu")
        assert (found["status"], found["time_visits_left_out"]) == ("ok", 2)
        assert found["time_visits"] == (9,) * 9 + (10,)
        assert len(found["time_samples_ns"]) == 91

    def test_beside_a_visit_in_doubt_as_many_samples_are_passed(self, clock: list[int]) -> None:
        worker = Scripted({Visit: self.visits(clock, 50, 50, 0.36)})
        values_of(worker, "cpu")
        order = worker.names[worker.names.index("Resume") :][:6]
        assert order == ["Resume", "Visit", "PassSamples", "PassSamples", "PassSamples", "Visit"]
        assert [one.samples for one in worker.asked if isinstance(one, PassSamples)] == [3, 3, 3, 3, 9, 9, 9, 9]

    def test_one_slow_pass_excuses_no_visit(self, clock: list[int]) -> None:
        """Other work may interfere while samples are passed."""
        passes = iter([0, 0, 0, 0, 200])

        def passed(request: RequestMessage[Any]) -> Done:
            clock[0] += int(next(passes, 0) * 1e6)
            return Done()

        worker = Scripted({PassSamples: passed, Visit: self.visits(clock, 20)})
        assert values_of(worker, "cpu")["status"] == "invalid"

    def test_one_undisturbed_try_is_enough(self, clock: list[int]) -> None:
        worker = Scripted({Visit: self.visits(clock, *[50] * 7, 0.36)})
        found = values_of(worker, "cpu")
        assert (found["status"], found["time_visits_left_out"]) == ("ok", 7)

    def test_what_is_done_beside_the_calls_is_not_held_against_them(self, clock: list[int]) -> None:
        def freshened(request: RequestMessage[Any]) -> Done:
            assert isinstance(request, PassSamples)
            clock[0] += int(request.samples * 20e6)
            return Done()

        worker = Scripted({PassSamples: freshened, Visit: self.visits(clock, 9 * 20 + 0.36)})
        assert values_of(worker, "cpu")["status"] == "ok"

    def test_samples_that_changed_after_they_were_taken_are_invalid(self, clock: list[int]) -> None:
        found = values_of(Scripted({Visit: Visited(samples=9, median_ns=40_000.0, called_ns=400_000.0)}), "cpu")
        assert clock == [0]
        assert found["reason"] == "samples of a visit add up to 360 µs, and to 400 µs when they were taken"
