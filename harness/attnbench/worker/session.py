"""One cell inside a worker: its tensors, its plan, its calls.

The parent drives it stage by stage (:mod:`attnbench.worker.__main__`); each stage either returns data or raises.
"""

from __future__ import annotations

import dataclasses
import gc
import math
from time import get_clock_info, perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.machine.interference import interference, read_counters
from attnbench.worker import memory
from attnbench.worker.call import Call, bind, no_gradients
from attnbench.worker.dump import Outputs, copies, dump, equal_bits, nbytes, spread
from attnbench.worker.identities import Allowance, Expected, look
from attnbench.worker.output_checks import (
    MisconductError,
    checksums,
    require_own_memory,
    require_tensors,
    require_unchanged,
    tensors_of,
)
from attnbench.worker.poison import poisoned_memory
from attnbench.worker.tensors import flip_signs, place, refresh, rewrite
from attnbench.worker.timing import MAX_WARMUP_CALLS, MIN_WARMUP_NS, SamplingLimits, calls_per_sample, sample, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.machine.interference import Counters
    from attnbench.registry.implementation import Implementation
    from attnbench.registry.operands import Operands
    from attnbench.worker.cuda.device import Accelerator

# Bound before any plug-in is imported: one that replaces time.perf_counter_ns changes nothing here.
_CLOCK = perf_counter_ns
_JUNK_BYTES = 256 * 2**20
_REPEAT_NS = 10_000_000
_MAX_CALLS = 6
_WITHOUT_END_NS = 2**62


class UnsupportedError(Exception):
    """The implementation gives a reason for not supporting the case."""


@dataclasses.dataclass(frozen=True)
class _Observed:
    """One call: its outputs where they are, and a copy that was made the moment that it returned."""

    live: Outputs
    kept: Outputs
    elapsed_ns: int

    def require_finished(self) -> None:
        if not equal_bits(self.live, self.kept):
            raise MisconductError(
                "what a call returned was changed afterwards: it goes on after it returned, or reuses its output"
            )


@dataclasses.dataclass
class SampleWindow:
    """Samples while they are being taken."""

    calls: int
    """How many make one sample."""
    set_up: Callable[[], object] | None
    before: Counters
    samples: list[float] = dataclasses.field(default_factory=list)
    result: object = None


@dataclasses.dataclass
class Session:
    """A case that is being run by an implementation on a device."""

    implementation: Implementation
    case: Case
    device: str
    operands: Operands | None = None
    call: Call | None = None
    results: list[Outputs] = dataclasses.field(default_factory=list)
    """Copies of what the last calls returned, made the moment that they returned: what the oracle is shown."""
    repeat_ns: int = _REPEAT_NS
    """Quick calls are repeated for so long, to see whether they always return the same."""
    expected: Expected | None = None
    """What a call takes, once there were some."""
    _timing: SampleWindow | None = None
    accelerator: Accelerator | None = None
    """Where calls only queue work: its clocks and counters take the place of the host's."""

    def prepare(self) -> dict[str, Any]:
        """Ask whether the case is supported, make its tensors, and prepare; only the last is timed."""
        said = self.implementation.declaration
        refusal = said.refuses(self.case, self.device) or no_gradients(self.implementation, self.case)
        if refusal is None and self.implementation.supports_hook is not None:
            refusal = self.implementation.supports_hook(self.case, self.device)
        if refusal:
            raise UnsupportedError(refusal)
        if self.accelerator is None and self.device == "cuda" and said.framework == "torch":
            from attnbench.worker.cuda.torch_device import TorchDevice

            self.accelerator = TorchDevice()
        start = _CLOCK()
        self.operands = place(self.case, said, self.device)
        self._wait()
        placed = _CLOCK()
        self.call = bind(self.implementation, self.case, self.operands)
        self._wait()
        return {"place_ns": placed - start, "prepare_ns": self.call.prepare_ns}

    def first_call(self) -> dict[str, Any]:
        """The first call of all, with whatever it compiles or sets up; then more on the same inputs.

        The second one finds NaN in fresh memory; quick ones are repeated. Results that differ in any bit stay to be
        judged, the first and the one that is farthest from it.

        Raises:
            MisconductError: when a call writes into its inputs, hands them or an earlier result out, or goes on
                after it has returned.
        """
        assert self.operands is not None
        inputs = checksums(self.operands)
        one = self._one_call()
        if self.accelerator is not None:
            self.accelerator.poison(nbytes(one.kept))
        with poisoned_memory():
            two = self._one_call()
        calls = [one, two]
        repeated_ns = one.elapsed_ns + two.elapsed_ns
        while repeated_ns < self.repeat_ns and len(calls) < _MAX_CALLS:
            calls.append(self._one_call())
            repeated_ns += calls[-1].elapsed_ns
        require_own_memory(one.live, tensors_of(self.operands), "input")
        require_own_memory(two.live, one.live, "an earlier call's")
        sleep(self.repeat_ns / 3e9)  # whoever goes on after it returned has time to show it
        for call in calls:
            call.require_finished()
        require_unchanged(inputs, self.operands)
        spreads = [0.0 if equal_bits(one.kept, call.kept) else spread(one.kept, call.kept) for call in calls]
        farthest = max(range(len(calls)), key=spreads.__getitem__)
        same = all(equal_bits(one.kept, call.kept) for call in calls)
        self.results = [one.kept] if same else [one.kept, calls[farthest or 1].kept]
        assert self.call is not None
        later_ns = min(call.elapsed_ns for call in calls[1:])
        self.expected = Expected(call_ns=later_ns, anew_ns=self.call.prepare_ns + max(one.elapsed_ns, later_ns))
        return {
            "first_call_ns": one.elapsed_ns,
            "later_calls_ns": repeated_ns - one.elapsed_ns,
            "deterministic": same,
            "spread_rel": max(spreads) if math.isfinite(max(spreads)) else None,
            "results": len(self.results),
        }

    def fresh_call(self, repetition: int = 1) -> dict[str, Any]:
        """One call on inputs that the implementation has not seen."""
        self._refresh(repetition)
        return self.further_call()

    def further_call(self) -> dict[str, Any]:
        """One call on the inputs as they are."""
        call = self._one_call()
        self.results = [call.kept]
        return {"fresh_call_ns": call.elapsed_ns}

    def time(self, limits: SamplingLimits, cache: str) -> dict[str, Any]:
        """Warm up on the first inputs, then time calls on inputs that the implementation has not seen.

        Each sample has inputs of its own: V's signs have flipped once more (:mod:`attnbench.cases.sign_flips`).
        """
        if self.accelerator is not None:
            from attnbench.worker.cuda import stages

            call = self.prepared()
            self.results = []
            fields, result = stages.time(
                call, self.accelerator, limits, refresh=self._refresh, flip_signs=self._flip_signs
            )
            self._keep(result)
            return fields
        warmed = self.warm_up(cache)
        self._sample(limits)
        return {**warmed, **self.timed()}

    def warm_up(self, cache: str, *, min_ns: int = MIN_WARMUP_NS, max_calls: int = MAX_WARMUP_CALLS) -> dict[str, Any]:
        """Warm up on the first inputs, then take the next ones: blocks of samples can follow."""
        call = self.prepared()
        self.results = []
        set_up = call.set_up if call.needs_set_up else None
        warmed = warm_up(call.run, _CLOCK, set_up=set_up, min_ns=min_ns, max_calls=max_calls)
        start = _CLOCK()
        self._refresh()
        refreshed = _CLOCK() - start
        calls = 1
        if cache == "cold":
            set_up = _cold(call)
        elif set_up is None:
            calls = calls_per_sample(warmed.call_ns, get_clock_info("perf_counter").resolution * 1e9)
        gc.collect()
        self._timing = SampleWindow(calls, set_up, read_counters())
        return {
            "warmup_calls": warmed.calls,
            "warmup_converged": warmed.converged,
            "warmup_ns": warmed.calls * warmed.call_ns,
            "refresh_ns": refreshed,
        }

    def block(self, samples: int) -> dict[str, Any]:
        """So many samples, after a call that is not timed: whoever ran meanwhile has taken the caches."""
        call = self.prepared()
        call.set_up()
        call.run()
        self._sample(SamplingLimits(min_samples=samples, max_samples=samples, sampling_ns=_WITHOUT_END_NS))
        return {}

    def timed(self) -> dict[str, Any]:
        """All samples since the warm-up; the last result stays, to be judged."""
        timing = self._timing
        if timing is None or not timing.samples:
            raise RuntimeError("nothing was timed yet")
        disturbed = interference(timing.before, read_counters())
        self._keep(timing.result)
        self._timing = None
        return {
            "time_samples_ns": timing.samples,
            "calls_per_sample": timing.calls,
            "flip_index": len(timing.samples) - 1,
            "involuntary_switches": disturbed.involuntary_switches,
            "major_faults": disturbed.major_faults,
            "steal_share": disturbed.steal_share,
        }

    def _sample(self, limits: SamplingLimits) -> None:
        timing = self._timing
        if timing is None:
            raise RuntimeError("nothing was warmed up")
        done = len(timing.samples)
        timing.result = None
        gc.disable()
        try:
            samples, timing.result = sample(
                self.prepared().run, _CLOCK, limits, calls=timing.calls, set_up=timing.set_up,
                freshen=lambda number: self._flip_signs(done + number),
            )  # fmt: skip
        finally:
            gc.enable()
        timing.samples += samples

    def identities(self, allowance: Allowance) -> dict[str, Any]:
        """Other ways to the latest result, compared over all rows."""
        if self.expected is None:
            raise RuntimeError("nothing was called yet")
        return look(self, self.expected, allowance)

    def further_times(self) -> dict[str, Any]:
        """On an accelerator, the times beside the one that is compared."""
        assert self.accelerator is not None
        assert self.operands is not None
        from attnbench.worker.cuda import stages

        return stages.further_times(self.prepared(), self.accelerator, self.operands)

    def dump(self, selection: dict[str, Any], folder: Path, result: int) -> dict[str, Any]:
        """Write those parts of a retained result that the oracle wants to see."""
        return dump(self.case, self.implementation.declaration.layout, self.results[result], selection, folder)

    def memory(self) -> dict[str, Any]:
        """Peak memory of one call, apart from any timed one."""
        refusal = memory.unsupported() if self.accelerator is None else None
        if refusal:
            return {"memory_refused": refusal}
        call = self.prepared()
        output = nbytes(call.returned(self.results[0])) if self.results else None
        self.results = []
        if self.accelerator is not None:
            from attnbench.worker.cuda import stages

            return {**stages.memory(call, self.accelerator), "memory_output_bytes": output}
        start = _CLOCK()
        try:
            peak = memory.peak_of(call.run, set_up=call.set_up if call.needs_set_up else None)
        except memory.UnsettledError as unsettled:
            return {"memory_refused": str(unsettled)}
        return {
            "memory_peak_bytes": peak.peak_bytes,
            "memory_resolution_bytes": peak.resolution_bytes,
            "memory_output_bytes": output,
            "memory_method": memory.METHOD,
            "memory_ns": _CLOCK() - start,
        }

    def backend(self) -> dict[str, Any]:
        """What really runs, where the implementation can tell."""
        hook = self.implementation.backend_hook
        call = self.prepared()
        said: str | None = None
        if hook is not None:
            call.set_up()
            said = hook(call.run, call.plan) if self.implementation.backend_takes_plan else hook(call.run)
        if self.accelerator is not None:
            from attnbench.worker.cuda import stages

            return stages.backend(call, self.accelerator, said)
        return {"backend": said}

    def close(self) -> dict[str, Any]:
        """Let go of everything, so that the next cell starts with what this one found."""
        self.call = self.operands = self._timing = None
        self.results = []
        gc.collect()
        return {}

    def _one_call(self) -> _Observed:
        call = self.prepared()
        call.set_up()
        self._wait()
        start = _CLOCK()
        result = call.run()
        self._wait()
        elapsed = _CLOCK() - start
        outputs = call.outputs(result)
        require_tensors(outputs, self.implementation.declaration.framework)
        return _Observed(outputs, copies(outputs), elapsed)

    def _wait(self) -> None:
        """Until an accelerator has done what was queued."""
        if self.accelerator is not None:
            self.accelerator.synchronize()

    def _keep(self, result: object) -> None:
        """What the last timed call returned stays, to be judged."""
        assert self.operands is not None
        outputs = self.prepared().outputs(result)
        self.results = [copies(outputs)]
        require_own_memory(outputs, tensors_of(self.operands), "input")

    def _refresh(self, repetition: int = 1) -> None:
        """Inputs that the implementation has not seen, in the same memory."""
        assert self.operands is not None
        self.operands = refresh(self.case, self.implementation.declaration, self.operands, repetition)
        self.prepared().rebind(self.operands)

    def _flip_signs(self, sample_number: int) -> None:
        """Other inputs for each sample but the first, whose inputs are new anyway."""
        if sample_number == 0:
            return
        assert self.operands is not None
        self.operands = flip_signs(self.case, self.implementation.declaration, self.operands, sample_number)
        if self.implementation.declaration.framework == "jax":  # the others' tensors are the same ones
            self.prepared().rebind(self.operands)

    def rewrite(self, inputs: Mapping[str, NDArray[np.floating]]) -> None:
        """Give the tensors other values, in the canonical shape."""
        assert self.operands is not None
        self.operands = rewrite(self.case, self.implementation.declaration, self.operands, lambda name: inputs[name])
        self.prepared().rebind(self.operands)

    def prepared(self) -> Call:
        """The call that was prepared."""
        if self.call is None:
            raise RuntimeError("the case was not prepared")
        return self.call


def _cold(call: Call) -> Any:
    """A set-up that streams junk through the caches before each call, so that it finds none of its inputs there."""
    junk = np.zeros(_JUNK_BYTES, np.uint8)

    def set_up() -> None:
        call.set_up()
        np.add(junk, 1, out=junk)

    return set_up
