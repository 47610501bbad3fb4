"""One cell in a worker: its tensors, its plan, its calls. The stages use it (:mod:`attnbench.stages`)."""

from __future__ import annotations

import dataclasses
import gc
from random import SystemRandom
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from attnbench.cases.inputs.sample_inputs import Inputs, queries_can_move
from attnbench.worker.dump import Outputs, copies, equal_bits
from attnbench.worker.output_checks import (
    MisconductError,
    require_own_memory,
    require_separate_memory,
    require_tensors,
    tensors_of,
)
from attnbench.worker.tensors import flip_signs, move_queries, queries_in_a_row, refresh, rewrite

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Implementation
    from attnbench.registry.operands import Operands
    from attnbench.worker.call import Call
    from attnbench.worker.cuda.device import Accelerator
    from attnbench.worker.timing import SampleWindow

# Bound before any plug-in is imported, so that a plug-in that replaces time.perf_counter_ns changes nothing here.
_CLOCK = perf_counter_ns
_RANDOM = SystemRandom()
REPEAT_NS = 10_000_000


class UnsupportedError(Exception):
    """The implementation gives a reason for not supporting the case."""


@dataclasses.dataclass(frozen=True)
class ObservedCall:
    """One call: its outputs in place, and a copy that was made as soon as it returned."""

    live: Outputs
    kept: Outputs
    elapsed_ns: int

    def require_finished(self) -> None:
        """Raise if the outputs changed after the call returned, which is misconduct."""
        if not equal_bits(self.live, self.kept):
            raise MisconductError(
                "what a call returned was changed afterwards: it goes on after it returned, or reuses its output"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """The expected duration of a call, from those made so far."""

    call_ns: float
    anew_ns: float
    """The duration of a case's first call, including preparation and compilation."""


@dataclasses.dataclass
class Session:
    """A case that an implementation runs on a device."""

    implementation: Implementation
    case: Case
    device: str
    operands: Operands | None = None
    call: Call | None = None
    results: list[Outputs] = dataclasses.field(default_factory=list)
    """Copies of the last calls' outputs, made as soon as they returned; they are shown to the oracle."""
    returned: list[Outputs] = dataclasses.field(default_factory=list)
    """The outputs of the first two calls themselves, in whose memory no later output may be while they are held."""
    repeat_ns: int = REPEAT_NS
    """Quick calls are repeated for this long, to check that they always return the same."""
    expected: Expected | None = None
    """The duration of a call, once any was made."""
    window: SampleWindow | None = None
    inputs: Inputs = dataclasses.field(default_factory=Inputs)
    """Describes the values that the operands have now."""
    queries: Any = None
    """The queries from which those of samples are moved."""
    accelerator: Accelerator | None = None
    """The device, if calls only queue work; its clocks and counters replace the host's."""

    def one_call(self) -> ObservedCall:
        """Call on the current inputs."""
        call = self.prepared()
        call.set_up()
        self.wait()
        start = _CLOCK()
        result = call.run()
        self.wait()
        elapsed = _CLOCK() - start
        outputs = call.outputs(result)
        require_tensors(outputs, self.implementation.declaration.framework, self.device)
        return ObservedCall(outputs, copies(outputs), elapsed)

    def further_call(self) -> int:
        """Make one call whose result replaces the others, and return its nanoseconds."""
        call = self.one_call()
        require_separate_memory([*self.returned, call.live])
        self.results, self.returned = [call.kept], []
        return call.elapsed_ns

    def keep(self, result: object) -> None:
        """Keep the result of the last timed call, to be judged."""
        outputs = self.prepared().outputs(result)
        self.results = [copies(outputs)]
        require_own_memory(outputs, tensors_of(self.placed()), "input")

    def wait(self) -> None:
        """Wait until an accelerator has done its queued work."""
        if self.accelerator is not None:
            self.accelerator.synchronize()

    def refresh(self, repetition: int = 1) -> None:
        """Write inputs that the implementation has not seen to the same memory."""
        said = self.implementation.declaration
        self._rebind(refresh(self.case, said, self.placed(), repetition))
        self.inputs = Inputs(repetition=repetition)

    def begin_samples(self, repetition: int) -> None:
        """Write the inputs from which those of all samples are derived."""
        self.refresh(repetition)
        if queries_can_move(self.case):
            self.queries = queries_in_a_row(self.case, self.implementation.declaration, self.device, repetition)

    def next_sample(self, moved: int | None = None) -> None:
        """Write inputs that differ from the previous sample's to the same memory (``cases/inputs/sample_inputs.py``).

        Queries move by ``moved`` places, or by a random number of places if it is ``None``.
        """
        said, case = self.implementation.declaration, self.case
        flip_index = self.inputs.flip_index + 1
        if moved is None:
            moved = _RANDOM.randrange(max(1, case.heads_q * case.seqlen_q))
        moved = 0 if self.queries is None else moved
        self.inputs = self.inputs.model_copy(update={"flip_index": flip_index, "moved": moved})
        self.operands = flip_signs(case, said, self.placed(), flip_index)
        if self.queries is not None:
            self.operands = move_queries(case, said, self.operands, self.queries, self.inputs)
        if said.framework == "jax":  # the others write to the same tensors
            self.prepared().rebind(self.operands)

    def end_samples(self) -> None:
        """Stop taking samples."""
        self.window = self.queries = None

    def rewrite(self, inputs: Mapping[str, NDArray[np.floating]]) -> None:
        """Write other values, in the canonical shape, to the tensors."""
        declaration = self.implementation.declaration
        self._rebind(rewrite(self.case, declaration, self.placed(), lambda name: inputs[name]))

    def _rebind(self, operands: Operands) -> None:
        self.operands = operands
        self.prepared().rebind(operands)

    def placed(self) -> Operands:
        """Return the inputs."""
        if self.operands is None:
            raise RuntimeError("the case was not prepared")
        return self.operands

    def prepared(self) -> Call:
        """Return the prepared call."""
        if self.call is None:
            raise RuntimeError("the case was not prepared")
        return self.call

    def close(self) -> None:
        """Release everything, so that the next cell starts in the same state."""
        self.call = self.operands = self.window = self.queries = None
        self.results, self.returned = [], []
        gc.collect()
