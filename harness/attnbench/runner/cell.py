"""One cell, from its first stage to its record's fields.

The stages are asked of the worker one by one, so that whatever happens is known to have happened in one of them:
prepare, call, agreement, time, agreement again (on an output that was timed), other times (on an accelerator), memory,
back end.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

from attnbench.runner.oracle import OracleGoneError
from attnbench.runner.time_accounting import Spent
from attnbench.transport.child import Child, ChildGoneError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from attnbench.cases.case import Case
    from attnbench.runner.oracle import Oracle

_PREPARE_NS = 2e9
"""What is compiled for longer than this for each case is not compiled for identities' other cases."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellLimits:
    """What a cell may take."""

    time_s: float
    memory_bytes: int
    sampling: dict[str, int]
    """The worker's stop rule: min_samples, max_samples, sampling_ns."""
    cache: str
    timed: bool
    measure_memory: bool
    blocks: int = 0
    """On a CPU, samples are taken in so many blocks, and whoever drives the cell may let another one run between them;
    0 takes them at one go."""
    warmup: dict[str, int] = dataclasses.field(default_factory=dict)
    """With blocks: ``min_ns`` and ``max_calls`` in place of the protocol's, where the processor is awake anyway."""


class CellEndedError(Exception):
    """The cell ended before its last stage, with a status other than ok."""

    def __init__(self, stage: str, status: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.status, self.reason = stage, status, reason


class CellRun:
    """A cell on its way through the stages. ``fields`` grows with what each one measured."""

    def __init__(
        self, worker: Child, oracle: Oracle, case: Case, device: str, limits: CellLimits, folder: Path
    ) -> None:
        self.worker, self.oracle, self.case, self.device = worker, oracle, case, device
        self.limits, self.folder = limits, folder
        self.fields: dict[str, Any] = {}
        self.spent = Spent()
        self.worker_died = False
        self._unusable: str | None = None
        self._deadline = time.monotonic() + limits.time_s
        self._resident_limit = worker.resident_bytes() + limits.memory_bytes

    def run(self) -> dict[str, Any]:
        """Go through the stages.

        Returns:
            The record's fields for outcome, agreement, time and memory; always with a ``status``.
        """
        steps = self.steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                fields: dict[str, Any] = end.value
                return fields

    def steps(self) -> Generator[None, None, dict[str, Any]]:
        """The same, with a pause after the calls that are judged, after the warm-up, and after each block of samples.

        The pauses are not counted against the cell's time. ``limits.blocks`` says how many blocks there are.
        """
        try:
            self._prepare()
            self._call()
            if self.limits.timed and self.limits.blocks and self.device == "cpu":
                yield from self._paused()
                flip_index = yield from self._time_in_blocks()
                self._agree(repetition=1, flip_index=flip_index)
            elif self.limits.timed:
                self._agree(repetition=1, flip_index=self._time())
                self._require_undisturbed()
                if self.device != "cpu":
                    self._further_times()
            else:
                self._fresh_call()
                self._agree(repetition=1)
            self._identities()
            if self.limits.measure_memory:
                self._memory()
            self._backend()
        except CellEndedError as end:
            measured = {name: v for name, v in self.fields.items() if not name.startswith(("time_", "memory_"))}
            return {**measured, "status": end.status, "stage": end.stage, "reason": end.reason}
        finally:
            self._close()
        return {**self.fields, "status": "ok"}

    def _paused(self) -> Generator[None, None, None]:
        paused = time.monotonic()
        yield
        self._deadline += time.monotonic() - paused

    def _prepare(self) -> None:
        answer = self._ask(
            "prepare",
            do="prepare",
            case=self.case.to_dict(),
            device=self.device,
            memory_bytes=self.limits.memory_bytes,
        )
        self.fields["prepare_ns"] = answer["prepare_ns"]
        self.spent.first_calls += answer["prepare_ns"]

    def _call(self) -> None:
        asked = time.monotonic()
        answer = self._ask("call", do="call")
        first, later = answer["first_call_ns"], answer.pop("later_calls_ns")
        self.spent.first_calls += first
        self.spent.repeats += later
        self.spent.shown += max(0.0, 1e9 * (time.monotonic() - asked) - first - later)
        results = answer.pop("results")
        self.fields |= answer
        for result in range(results):
            self._agree(repetition=0, result=result)

    def _fresh_call(self) -> None:
        """Where nothing is timed, a call on inputs that are new to the implementation."""
        self.spent.repeats += self._ask("call", do="fresh_call")["fresh_call_ns"]

    def _agree(self, repetition: int, flip_index: int = 0, result: int = 0) -> None:
        """Show the oracle what it asks to see of a result; disagreement ends the cell."""
        about = {"case": self.case.to_dict(), "repetition": repetition, "flip_index": flip_index}
        asked = time.monotonic()
        wanted = self._ask_oracle({"do": "select", **about})
        shown = self._ask("agreement", do="dump", selection=wanted["selection"], folder=str(self.folder), result=result)
        self.spent.shown += 1e9 * (time.monotonic() - asked)
        asked = time.monotonic()
        verdict = self._ask_oracle({"do": "judge", **about, "outputs": shown["outputs"], "folder": str(self.folder)})
        self._deadline += time.monotonic() - asked  # the oracle's time is not the implementation's
        self.spent.oracle += verdict["oracle_ns"]
        self._keep_worse(verdict["fields"])
        if verdict["problem"]:
            guess = f"; a guess at the cause: {verdict['cause']}" if verdict["cause"] else ""
            raise CellEndedError("agreement", "wrong", verdict["problem"] + self._which(repetition, result) + guess)

    def _identities(self) -> None:
        """Look at other ways to the latest result, which agreed as far as it was judged.

        Where time is measured only what is cheap beside it: a quarter of warm-up and samples, and no other case.
        """
        left_ns = max(0.0, self._deadline - time.monotonic()) * 1e9
        timing_ns = self.spent.warmup + self.spent.samples
        allowance = {
            "time_ns": min(left_ns, timing_ns / 4) if self.limits.timed else left_ns / 2,
            "memory_bytes": self.limits.memory_bytes / 2,
            "prepare_ns": 0 if self.limits.timed else _PREPARE_NS,
        }
        asked = time.monotonic()
        answer = self._ask("agreement", do="identities", allowance=allowance)
        self.spent.identities += 1e9 * (time.monotonic() - asked)
        if not answer["found"]:
            return
        about = {"case": self.case.to_dict(), "repetition": 1, "flip_index": 0}
        asked = time.monotonic()
        verdict = self._ask_oracle({"do": "identities", **about, "found": answer["found"]})
        self._deadline += time.monotonic() - asked
        self.spent.oracle += verdict["oracle_ns"]
        self.fields["identities"] = sorted(verdict["ratios"])
        worst = max(verdict["ratios"].values(), default=None)
        # Infinite where one way gives NaN and the other does not: the sentence tells, and no number is kept.
        self.fields["identity_error_ratio"] = worst if worst is not None and math.isfinite(worst) else None
        if verdict["problem"]:
            raise CellEndedError("agreement", "wrong", verdict["problem"])

    def _which(self, repetition: int, result: int) -> str:
        """Which call it was, where it was not the first one."""
        if repetition:
            return " (on fresh inputs, timed)" if self.limits.timed else " (on fresh inputs)"
        return " (a repeated call, with NaN in fresh memory or by chance)" if result else ""

    def _keep_worse(self, fields: dict[str, Any]) -> None:
        """Of two checks the record tells the one with the larger ratio, tensor by tensor."""
        for name, value in fields.items():
            ratio = f"{name.partition('_')[0]}_error_ratio"
            if ratio in fields and self.fields.get(ratio) is not None and self.fields[ratio] > fields[ratio]:
                continue
            self.fields[name] = value

    def _time(self) -> int:
        """Take samples; the flip index of the inputs when the last one was taken."""
        answer = self._ask("time", do="time", limits=self.limits.sampling, cache=self.limits.cache)
        return self._timed(answer)

    def _timed(self, answer: dict[str, Any]) -> int:
        """Keep what was timed; the flip index of the inputs when the last sample was taken."""
        self.spent.warmup += answer["warmup_ns"]
        self.spent.samples += sum(answer["time_samples_ns"]) * answer["calls_per_sample"]
        flip_index: int = answer.pop("flip_index")
        for name in ("warmup_ns", "refresh_ns"):
            del answer[name]
        self._unusable = answer.pop("unusable", None)
        self.fields |= {"cache_state": self.limits.cache, "time_method": "perf_counter_ns", **answer}
        return flip_index

    def _time_in_blocks(self) -> Generator[None, None, int]:
        """As :meth:`_time`, with pauses."""
        warmed = self._ask("time", do="warm_up", cache=self.limits.cache, limits=self.limits.warmup)
        samples = self.limits.sampling["min_samples"]
        for block in range(self.limits.blocks):
            yield from self._paused()
            first, end = (samples * n // self.limits.blocks for n in (block, block + 1))
            self._ask("time", do="block", samples=end - first)
        return self._timed({**warmed, **self._ask("time", do="timed")})

    def _require_undisturbed(self) -> None:
        """Samples that something physical disturbed say nothing; a wrong kernel was found before."""
        if self._unusable is not None:
            raise CellEndedError("time", "invalid", self._unusable)

    def _further_times(self) -> None:
        answer = self._ask("time", do="further_times")
        self.spent.memory += answer.pop("further_ns")
        self.fields |= answer

    def _memory(self) -> None:
        answer = self._ask("memory", do="memory")
        if "memory_refused" in answer:
            self.fields["reason"] = f"memory was not measured: {answer['memory_refused']}"
            return
        self.spent.memory += answer.pop("memory_ns")
        self.fields |= answer

    def _backend(self) -> None:
        answer = self._ask("backend", do="backend")
        if not self.limits.timed:
            answer.pop("time_kernel_ns", None)
        self.fields |= answer

    def _close(self) -> None:
        if not self.worker_died:
            try:
                self._ask("memory", do="close")
            except CellEndedError:
                self.worker_died = True

    def _ask(self, stage: str, **request: Any) -> dict[str, Any]:
        """Ask the worker; anything but an ok ends the cell."""
        left = max(0.001, self._deadline - time.monotonic())
        try:
            answer = self.worker.ask(request, left, self._resident_limit)
        except ChildGoneError as gone:
            self.worker_died = True
            reason = gone.reason
            if gone.status == "timeout":
                reason = f"the cell took more than its {self.limits.time_s:.3g} s; its worker was killed"
            raise CellEndedError(stage, gone.status, reason) from gone
        status = answer.pop("status")
        if status != "ok":
            raise CellEndedError(stage, status, answer["reason"])
        return answer

    def _ask_oracle(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self.oracle.ask(request)
        except OracleGoneError as gone:
            raise CellEndedError("agreement", "error", str(gone)) from gone
        if answer.pop("status") != "ok":
            raise CellEndedError("agreement", "error", answer["reason"])
        return answer
