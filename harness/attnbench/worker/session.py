"""One cell inside a worker: its tensors, its plan, its calls.

The parent drives it stage by stage (:mod:`attnbench.worker.__main__`); each stage either returns data or raises.
"""

from __future__ import annotations

import dataclasses
import gc
from time import get_clock_info, perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.machine.disturbance import disturbance, read_counters
from attnbench.worker import memory
from attnbench.worker.call import Call, bind, no_gradients
from attnbench.worker.dump import Outputs, dump, equal_bits, nbytes
from attnbench.worker.placing import place, refresh
from attnbench.worker.timing import Limits, calls_per_sample, sample, warm_up

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Implementation
    from attnbench.registry.operands import Operands

# Bound before any plug-in is imported: one that replaces time.perf_counter_ns changes nothing here.
_CLOCK = perf_counter_ns
_JUNK_BYTES = 256 * 2**20


class UnsupportedError(Exception):
    """The implementation gives a reason for not supporting the case."""


@dataclasses.dataclass
class Session:
    """A case that is being run by an implementation on a device."""

    implementation: Implementation
    case: Case
    device: str
    operands: Operands | None = None
    call: Call | None = None
    outputs: Outputs | None = None

    def prepare(self) -> dict[str, Any]:
        """Ask whether the case is supported, make its tensors, and prepare; only the last is timed."""
        said = self.implementation.declaration
        refusal = said.refuses(self.case, self.device) or no_gradients(self.implementation, self.case)
        if refusal is None and self.implementation.supports_hook is not None:
            refusal = self.implementation.supports_hook(self.case, self.device)
        if refusal:
            raise UnsupportedError(refusal)
        start = _CLOCK()
        self.operands = place(self.case, said, self.device)
        placed = _CLOCK()
        self.call = bind(self.implementation, self.case, self.operands)
        return {"place_ns": placed - start, "prepare_ns": self.call.prepare_ns}

    def first_call(self) -> dict[str, Any]:
        """The first call of all, with whatever it compiles or sets up; then a second one on the same inputs.

        The outputs of the two are compared bit by bit; the first one's stay to be judged.
        """
        call = self._call()
        call.set_up()
        start = _CLOCK()
        result = call.run()
        first = _CLOCK() - start
        self.outputs = call.outputs(result)
        call.set_up()
        start = _CLOCK()
        again = call.outputs(call.run())
        second = _CLOCK() - start
        return {"first_call_ns": first, "second_call_ns": second, "deterministic": equal_bits(self.outputs, again)}

    def time(self, limits: Limits, cache: str) -> dict[str, Any]:
        """Warm up on the first inputs, then time calls on inputs that the implementation has not seen."""
        call = self._call()
        self.outputs = None
        set_up = call.set_up if call.needs_set_up else None
        warmed = warm_up(call.run, _CLOCK, set_up=set_up)
        assert self.operands is not None
        start = _CLOCK()
        self.operands = refresh(self.case, self.implementation.declaration, self.operands, repetition=1)
        call.rebind(self.operands)
        refreshed = _CLOCK() - start
        calls = 1
        if cache == "cold":
            set_up = _cold(call)
        elif set_up is None:
            calls = calls_per_sample(warmed.call_ns, get_clock_info("perf_counter").resolution * 1e9)
        gc.collect()
        gc.disable()
        try:
            before = read_counters()
            samples, result = sample(call.run, _CLOCK, limits, calls=calls, set_up=set_up)
            disturbed = disturbance(before, read_counters())
        finally:
            gc.enable()
        self.outputs = call.outputs(result)
        return {
            "time_samples_ns": samples,
            "warmup_calls": warmed.calls,
            "warmup_converged": warmed.converged,
            "warmup_ns": warmed.calls * warmed.call_ns,
            "calls_per_sample": calls,
            "refresh_ns": refreshed,
            "involuntary_switches": disturbed.involuntary_switches,
            "major_faults": disturbed.major_faults,
            "steal_share": disturbed.steal_share,
        }

    def dump(self, selection: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Write those parts of the retained outputs that the oracle wants to see."""
        if self.outputs is None:
            raise RuntimeError("there is no output to show")
        return dump(self.case, self.implementation.declaration.layout, self.outputs, selection, folder)

    def memory(self) -> dict[str, Any]:
        """Peak memory of one call, apart from any timed one."""
        refusal = memory.unsupported()
        if refusal:
            return {"memory_refused": refusal}
        call = self._call()
        output = nbytes(call.returned(self.outputs)) if self.outputs is not None else None
        self.outputs = None
        start = _CLOCK()
        peak = memory.peak_of(call.run, set_up=call.set_up if call.needs_set_up else None)
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
        if hook is None:
            return {"backend": None}
        call = self._call()
        call.set_up()
        return {"backend": hook(call.run)}

    def close(self) -> dict[str, Any]:
        """Let go of everything, so that the next cell starts with what this one found."""
        self.call = self.operands = self.outputs = None
        gc.collect()
        return {}

    def _call(self) -> Call:
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
